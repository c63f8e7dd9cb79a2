"""Published measurements of training runs, read from a table (published.csv) and made comparable.

A row is eligible by what it says, never by how well it is met: its network's sizes, GPU, layout, batch, precision and
one figure of speed must be there. Conventions differ between sources: speed is turned into seconds a step.
"""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from troth.plan.dimensions import Dimensions, network_named, resized
from troth.plan.gpus import gpu_named
from troth.plan.memory_fsdp import CHEAP
from troth.plan.run import Run

Number = Callable[[str], float | None]
"""A column of a row as a number, None where it is empty."""


@dataclass(frozen=True)
class Published:
    """A row: what was run, and in how many seconds a step; `reason` says why it can't be predicted, where it can't.
    memory: bytes of a GPU at the peak, where they are published."""

    source: str
    model: str
    line: int
    run: Run | None = None
    seconds: float = 0.0
    memory: float | None = None
    recompute_said: bool = False
    reason: str = ""


def read_published(path: Path) -> list[Published]:
    """All rows. Raises ValueError naming a column that is missing, or a number that is none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8: {error}") from error
    needed = {"source", "model", "seq", "gpu", "n_gpus", "tp", "pp", "global_batch_sequences", "precision", "notes"}
    if missing := needed - set(reader.fieldnames or []):
        raise ValueError(f"{path}: no column {', '.join(sorted(missing))}")
    return [_read(row, line, path) for line, row in enumerate(rows, start=2)]


UNDATED = {
    "mosaicml/llm-foundry": 2023.7, "Megatron-LM HEAD": 2024.6, "Megatron-LM@c230e0d7c2": 2024.8,
    "Megatron-MoE-ModelZoo": 2025.6, "Automodel": 2026.1, "Nemotron-4 340B": 2024.4,
}  # fmt: skip
"""When the software of sources that do not say it is from: the dates of their commits or reports."""


class Unsaid(Exception):
    """What a row leaves open."""


def _read(row: dict[str, str], line: int, path: Path) -> Published:
    published = Published(row["source"], row["model"], line)

    def number(name: str) -> float | None:
        text = (row.get(name) or "").replace(",", "")
        try:
            return float(text) if text else None
        except ValueError:
            raise ValueError(f"{path}, line {line}: {name}={text!r} is no number") from None

    try:
        run, seconds, said = _understand(row, number)
    except Unsaid as error:
        return replace(published, reason=str(error))
    memory = re.search(r"peak_mem_GiB=([\d.]+)", row["notes"])
    peak = float(memory[1]) * 2**30 if memory else None
    return replace(published, run=run, seconds=seconds, memory=peak, recompute_said=said)


def _understand(row: dict[str, str], number: Number) -> tuple[Run, float, bool]:
    notes, source = row["notes"], row["source"]
    if "from memory, verify" in notes and "precision" not in notes:
        raise Unsaid("a lead, given from memory")
    for word, what in (("lora", "adapters are trained, not the weights"), ("[rl", "reinforcement learning")):
        if word in row["model"].lower():
            raise Unsaid(what)
    shape = _dimensions(row, number)
    try:
        gpu = gpu_named(row["gpu"])
    except ValueError:
        raise Unsaid(f"GPU {row['gpu']} is unknown") from None
    world, length, sequences = number("n_gpus"), number("seq"), number("global_batch_sequences")
    tp, pp, cp = number("tp"), number("pp"), number("cp") or 1
    for what, value in (("GPUs", world), ("length", length), ("batch", sequences), ("tp", tp), ("pp", pp)):
        if not value:
            raise Unsaid(f"{what} not said")
    dp = world / (tp * pp * cp)
    if dp != int(dp):
        raise Unsaid("layout does not make up the GPUs")
    local = sequences / dp
    micro_batch = number("micro_batch") or (local if pp == 1 and "local_batch" in notes else 1)
    if local < micro_batch or local % micro_batch:
        raise Unsaid("micro-batch does not divide a rank's share")
    precision = _precision(row["precision"])
    stack = _stack(source + notes)
    recompute, said = _recompute(row["recompute"], stack)
    run = Run(
        shape, gpu, int(world), int(sequences), int(length), int(micro_batch), int(tp), int(pp),
        int(number("vpp") or 1), int(cp), int(number("ep") or 1),
        sharded="FSDP" in notes or stack in ("torch", "torchtitan"), optimizer="adamw", precision=precision,
        recompute=recompute, date=_date(source, notes, gpu.year), stack=stack,
        dropless=not re.search(r"token[- ]?drop", row["model"] + notes),
    )  # fmt: skip
    run = replace(run, etp=1 if run.ep > 1 or "ETP=1" in notes else run.tp)
    if pp > 1 and "schedule=Interleaved" in notes:
        run = replace(run, vpp=2)
    return run, _seconds(row, number, run), said


def _dimensions(row: dict[str, str], number: Number) -> Dimensions:
    known = network_named(row["model"])
    layers, hidden, heads, ffn = (int(number(name) or 0) for name in ("layers", "hidden", "heads", "ffn"))
    if known is not None:
        return resized(known, layers)
    if "hybrid" in row["model"].lower():
        raise Unsaid("layers that are no attention are not modelled")
    if not (layers and hidden and heads):
        raise Unsaid("network's sizes not said")
    if experts := int(number("experts") or 0):
        if not (ffn and number("topk")):
            raise Unsaid("network's experts not said in full")
        return Dimensions(
            row["model"], layers, hidden, heads, int(number("kv_heads") or heads), hidden // heads,
            int(number("vocab") or 51200), moe_layers=layers, experts=experts, topk=int(number("topk") or 1), moe_ffn=ffn,
        )  # fmt: skip
    shape = Dimensions(
        row["model"], layers, hidden, heads, int(number("kv_heads") or heads), hidden // heads,
        int(number("vocab") or 51200), dense_ffn=ffn or 4 * hidden, matrices=2,
    )  # fmt: skip
    total = number("params_total")
    if not total:
        return shape
    choices = [replace(shape, matrices=m, tied=tied) for m in (2, 3) for tied in (True, False)]
    return min(choices, key=lambda one: abs(one.parameters - total))


def _precision(text: str) -> str:
    text = text.lower()
    if "fp4" in text:
        return "float4"
    return "float8" if "fp8" in text else "bf16"


def _recompute(text: str, stack: str) -> tuple[float, bool]:
    """Share of a layer's forward pass; selective means that of attention's inside, or norms, which cost little, and in
    torchtitan of all but what it lists."""
    text = text.lower()
    if not text:
        return 0.0, False
    if stack == "torchtitan" and "selective" in text:
        return CHEAP, True
    return (1.0 if "full" in text or text in ("yes", "recompute") else 0.0), True


def _stack(text: str) -> str:
    if any(word in text for word in ("maxtext", "paxml")):
        return "xla"
    if "torchtitan" in text:
        return "torchtitan"
    torch = ("mosaicml", "prime-rl", "Automodel", "OLMo")
    return "torch" if any(word in text for word in torch) else "fused"


def _date(source: str, notes: str, gpu_year: int) -> float:
    """Of the software; a year and a half after the GPU's where nothing says it."""
    patterns = [r"container (\d\d)\.(\d\d)", r"@v(\d\d)\.(\d\d)", r"ngc(\d\d)\.(\d\d)", r"NeMo (\d\d)\.(\d\d)",
                r"_20(\d\d)-?(\d\d)_", r"arXiv (\d\d)(\d\d)\.\d"]  # fmt: skip
    for name, date in UNDATED.items():
        if name in source:
            return date
    for text in (notes, source):
        for pattern in patterns:
            if found := re.search(pattern, text):
                return 2000 + int(found[1]) + (int(found[2]) - 0.5) / 12
    return gpu_year + 1.5


def _seconds(row: dict[str, str], number: Number, run: Run) -> float:
    if seconds := number("step_time_s"):
        return seconds
    tokens = run.sequences * run.length
    if rate := re.search(r"(?<!avg )tps_per_gpu=([\d.,]+)", row["notes"]):
        return tokens / (float(rate[1].replace(",", "")) * run.world)
    rate = number("tflops_per_gpu")
    if not rate and number("mfu"):
        rate = number("mfu") / 100 * run.gpu.peak(run.precision) / 1e12
    if not rate:
        raise Unsaid("no speed said")
    s = run.dimensions
    hardware = "HARDWARE" in row["notes"].upper() and "FLOPS" in row["notes"].upper()
    causal = any(name in row["source"].lower() for name in ("grok", "llama4", "bridge", "modelzoo"))
    products = s.active_parameters - (0 if s.tied else s.vocab * s.hidden)
    attention = 2 * s.layers * s.heads * (s.head_dim + s.value_dim) * (s.seen(run.length) if causal else run.length)
    passes = 4 if hardware and run.recompute else 3
    return tokens * passes * (2 * products + attention) / (rate * 1e12 * run.world)
