"""Published measurements of training runs, read from a table (published.csv) and made comparable.

A row is eligible by what it says, never by how well it is met: its network's sizes, GPUs, layout, batch and a figure of
speed must be there. Conventions of counting differ between sources; every speed becomes seconds a step.
"""

import csv
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from troth.plan.dimensions import Dimensions, network_named, resized
from troth.plan.gpus import gpu_named
from troth.plan.memory import ROOM, memory_bytes
from troth.plan.release import (
    COMPILED,
    ETP,
    chunks,
    date_of,
    expert_ranks,
    expert_tensor_ranks,
    imbalance,
    micro_batch,
    recipe_of,
    stack_of,
)
from troth.plan.run import CHEAP, Run, columns

NEEDED = ("source", "model", "seq", "gpu", "n_gpus", "tp", "pp", "global_batch_sequences", "precision", "notes")
"""Columns that a table must have."""

EMPTY = ("", "-", "na", "n/a", "nan", "none", "null")
"""What stands in a cell for numbers that a source does not say."""

CAUSAL = ("grok", "llama4", "bridge", "modelzoo", "2407.21783")
"""Sources that count only the half of attention's products that a causal mask leaves. Llama 3's report does not say so,
but gives 380 TFLOP/s at 131,072 positions and 400 at 8,192: with all scores, a third less would really be computed."""


@dataclass(frozen=True)
class Published:
    """A row: what was run and in how many seconds a step; `reason` says why it can't be predicted, where it can't.
    memory: bytes of a GPU at the peak, where published; recompute_said: whether the row says what is done again."""

    source: str
    model: str
    line: int
    run: Run | None = None
    seconds: float = 0.0
    memory: float | None = None
    recompute_said: bool = False
    reason: str = ""


class Unsaid(Exception):
    """What a row leaves open, or says as nobody can read it."""


@dataclass(frozen=True)
class _Row:
    """A row's cells, as text and as numbers."""

    cells: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.cells.get(name) or ""

    def number(self, name: str) -> float:
        """0 where the cell is empty. Raises Unsaid where it is no number, or one that nothing has."""
        text = self[name].replace(",", "").strip(" ~%")
        try:
            number = float("0" if text.lower() in EMPTY else text)
        except ValueError:
            raise Unsaid(f"{name}={text!r} is no number") from None
        if not 0 <= number < math.inf:
            raise Unsaid(f"{name}={text!r}: expected a number above 0, or nothing")
        return number

    def count(self, name: str) -> int:
        """The same as a whole number."""
        if (number := self.number(name)) != int(number):
            raise Unsaid(f"{name}={self[name]!r}: expected a whole number")
        return int(number)

    def need(self, name: str) -> int:
        """The same; raises Unsaid where it is empty, too."""
        if not self.number(name):
            raise Unsaid(f"{name} not said")
        return self.count(name)

    def noted(self, name: str) -> float:
        """What notes say as name=number; 0 where they do not."""
        said = re.search(rf"(?<!avg ){name}=([\d.,]+)", self["notes"])
        try:
            return float(said[1].replace(",", "")) if said else 0.0
        except ValueError:
            return 0.0


def read_published(path: Path) -> list[Published]:
    """All rows. Raises ValueError naming a column that is missing."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8: {error}") from error
    if missing := [name for name in NEEDED if name not in (reader.fieldnames or [])]:
        raise ValueError(f"{path}: no column {', '.join(missing)}; a table of published runs has {', '.join(NEEDED)}")
    return [_read(_Row(cells), line) for line, cells in enumerate(rows, start=2)]


def _read(row: _Row, line: int) -> Published:
    published = Published(row["source"], row["model"], line)
    try:
        run, recompute_said = _run(row)
        seconds = _seconds(row, run)
    except Unsaid as error:
        return replace(published, reason=str(error))
    peak = row.noted("peak_mem_GiB") * 2**30 or None
    return replace(published, run=run, seconds=seconds, memory=peak, recompute_said=recompute_said)


def _run(row: _Row) -> tuple[Run, bool]:
    """The run, and whether it is known what it does again."""
    notes, source, model = row["notes"], row["source"], row["model"].lower()
    if "from memory, verify" in notes:
        raise Unsaid("a lead, given from memory")
    for word, what in (("lora", "adapters are trained, not the weights"), ("[rl", "reinforcement learning")):
        if word in model:
            raise Unsaid(what)
    dimensions = _dimensions(row)
    if any(name in source for name in COMPILED):
        dimensions = replace(dimensions, clamped=False)
    try:
        gpu = gpu_named(row["gpu"])
    except ValueError:
        raise Unsaid(f"GPU {row['gpu']} is unknown") from None
    world, tp, pp, cp = row.need("n_gpus"), row.need("tp"), row.need("pp"), row.count("cp") or 1
    length = row.need("seq")
    if world % (tp * pp * cp):
        raise Unsaid("tp, pp and cp do not make up the GPUs")
    ranks = world // (tp * pp * cp)
    ep = expert_ranks(row.count("ep"), notes, world // pp, dimensions.experts)
    sequences = row.count("global_batch_sequences") or int(row.noted("local_batch") * ranks)
    if not sequences:
        raise Unsaid("global_batch_sequences not said")
    local = sequences / ranks
    rows = row.count("micro_batch") or micro_batch(source, pp, local)
    if rows < 1 or rows % 1 or local % rows:
        raise Unsaid("the micro-batch does not divide a rank's share")
    stack, date, precision = stack_of(source), date_of(source, notes, gpu), _precision(row["precision"])
    told = row.count("vpp") if pp > 1 else 1
    vpp = told or (2 if "schedule=Interleaved" in notes else chunks(source, pp, dimensions.layers))
    if pp * vpp > 2 * dimensions.layers:
        raise Unsaid("a pipeline of more parts than layers")
    recipe = recipe_of(source, notes, dimensions, gpu, precision, date)
    again = row["recompute"] or recipe.again
    run = Run(
        dimensions, gpu, world, sequences, length, int(rows), tp, pp, vpp, cp, ep,
        etp=expert_tensor_ranks(ep, tp, notes, date),
        sharded="FSDP" in notes or stack != "fused", optimizer="adamw", precision=precision,
        recompute=_recompute(again, stack),
        date=date, stack=stack,
        graphs=recipe.graphs, overlap=recipe.overlap, sends_once=recipe.sends_once, imbalance=imbalance(notes),
        ahead=recipe.ahead,
    )  # fmt: skip
    unsaid = ep > 1 and not re.search(ETP, notes.lower())
    return (_folded(run) if unsaid else run), bool(again)


def _folded(run: Run) -> Run:
    """With experts split over tensor-parallel ranks too, where a row does not say it and the run would not fit
    otherwise, not even with all computed again: published runs did."""
    folded = replace(run, etp=run.tp)
    whole, parts = memory_bytes(columns([run, folded]).with_recompute(np.ones(2)))
    return folded if parts <= ROOM * run.gpu.memory < whole else run


def _dimensions(row: _Row) -> Dimensions:
    layers, hidden, heads, ffn = (row.count(name) for name in ("layers", "hidden", "heads", "ffn"))
    if known := network_named(row["model"]):
        return resized(known, layers)
    if "hybrid" in row["model"].lower():
        raise Unsaid("layers that are no attention are not modelled")
    if not (layers and hidden and heads):
        raise Unsaid("the network's sizes are not said")
    name, kv_heads, vocab = row["model"], row.count("kv_heads") or heads, row.count("vocab") or 51200
    if experts := row.count("experts"):
        if not (ffn and row.count("topk")):
            raise Unsaid("the network's experts are not said in full")
        return Dimensions(
            name, layers, hidden, heads, kv_heads, hidden // heads, vocab, moe_layers=layers, experts=experts,
            topk=row.count("topk"), moe_ffn=ffn,
        )  # fmt: skip
    plain = Dimensions(
        name, layers, hidden, heads, kv_heads, hidden // heads, vocab, dense_ffn=ffn or 4 * hidden, matrices=2
    )
    if not (total := row.number("params_total")):
        return plain
    choices = [replace(plain, matrices=matrices, tied=tied) for matrices in (2, 3) for tied in (True, False)]
    return min(choices, key=lambda one: abs(one.parameters - total))


def _precision(text: str) -> str:
    text = text.lower()
    for precision, pattern in (("float4", r"(fp|float)4"), ("float8", r"(fp|float)8"), ("bf16", "16")):
        if re.search(pattern, text):
            return precision
    return "float32" if "32" in text else "bf16"


def _recompute(text: str, stack: str) -> float:
    """The share of a forward pass. What is selected costs little where it is attention's scores, which no kernel keeps;
    norms and gates are what is cheap, and in torchtitan all that is not listed."""
    if (stack == "torchtitan" and text.startswith("selective")) or re.search(r"norm\b", text):
        return CHEAP
    return float(text.startswith(("full", "yes", "Recompute")))


def _seconds(row: _Row, run: Run) -> float:
    if seconds := row.number("step_time_s"):
        return seconds
    tokens = run.sequences * run.length
    if tokens_a_second := row.noted("tps_per_gpu"):
        return tokens / (tokens_a_second * run.world)
    percent = row.number("mfu")  # or a share of 1, as no run has less than 1% of a peak
    share = (percent if percent <= 1 else percent / 100) * run.gpu.peaks.get(run.precision, run.gpu.peak("bf16"))
    rate = row.number("tflops_per_gpu") * 1e12 or share
    if not rate:
        raise Unsaid("no speed said")
    return tokens * _counted(row, run) / (rate * run.world)


def _counted(row: _Row, run: Run) -> float:
    """Operations of a token as the source counts them: some count what is done again, some all scores of attention."""
    d = run.dimensions
    hardware = re.search(r"hardware.{0,3}flops", row["notes"].lower())
    seen = d.seen(run.length) if any(name in row["source"].lower() for name in CAUSAL) else run.length
    return 2 * (4 if hardware and run.recompute else 3) * d.multiplications(seen)
