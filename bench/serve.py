"""Prefill and decode of one network by Troth's engine, llama.cpp and transformers, beside the limits of the machine.

    python bench/serve.py [--llama FOLDER] [--kinds bfloat16 int8] [--batches 1 8 32] [--rounds 5] [--threads 2]
                          [--json]

The network is the random Qwen3-MoE of bench/network.py: 175 million parameters, 43 million active. FOLDER holds
llama.cpp's `llama-batched-bench`; without it only transformers is beside Troth. Each round runs every program once, in
turn; a row gives the median of the rounds. Prefill is the prompt of one sequence; decode are 32 tokens of each sequence
of a batch behind prompts of 128 tokens. Troth's time is that of whole engine steps, scheduling and sampling included;
llama.cpp's and transformers' that of the network alone (greedy in transformers).

`of the limit`: decode against the bytes that a step must read (weights outside the experts, the share of experts that
a batch is expected to choose, keys and values) over the read bandwidth; prefill against the operations of the chosen
weights over the better of the float32 and bfloat16 rates of a product of 2048 x 2048 matrices; both measured in each
round. 8 bit are Troth's int8 and llama.cpp's q8_0, which take 8.5 bits a weight both.
"""

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import steps
import torch
from idle import warn_if_busy
from model import SIZES, write_model
from serve_http import TROTH
from steps import BEHIND, OUTPUT

from troth.model.counts import count_parameters, kv_cache_bytes
from troth.model.families.configs import read_config
from troth.model.products import onednn_has_bf16

PROMPTS = 128, 512
BITS = {"bfloat16": 16, "int8": 8.5, "int4": 4.5, "float32": 32}
GGUF = {"bfloat16": "bf16", "int8": "q8_0"}


def main() -> None:
    """Run, print a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", type=Path, metavar="FOLDER", help="folder of llama-batched-bench")
    parser.add_argument("--kinds", nargs="+", default=["bfloat16", "int8"], choices=BITS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        write_model(folder, SIZES)
        rows = [row for kind in options.kinds for row in run(folder, kind, options)]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(
            f"{row['kind']:<9} {row['work']:<11} {row['program']:<13} {row['tokens_per_second']:>8,.0f} tokens/s"
            f"  {row['of_limit']:>4.0%} of the limit  {row['ratio']:>5.2f}x the best peer"
        )


def run(folder: Path, kind: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one kind of weights. Each program has a process of its own."""
    works = [f"prefill {length}" for length in PROMPTS] + [f"decode {batch}" for batch in options.batches]
    processes = multiprocessing.get_context("spawn")
    pipes = {}
    for program in ("troth", "transformers") if kind in ("bfloat16", "float32") else ("troth",):
        pipes[program], there = processes.Pipe()
        target = {"troth": serve_troth, "transformers": serve_transformers}[program]
        arguments = there, folder, kind, options.threads, max(options.batches)
        processes.Process(target=target, args=arguments, daemon=True).start()
        pipes[program].recv()
    gguf = folder.with_suffix(f".{kind}.gguf")
    if options.llama is not None and kind in GGUF:
        subprocess.run([*TROTH, "export", str(folder), "--gguf", str(gguf), "--type", GGUF[kind]], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    bandwidths, rates = [], []
    for _ in range(options.rounds):
        bandwidths.append(read_bandwidth(options.threads))
        rates.append(matrix_rate(options.threads))
        for work in works:
            for program, pipe in pipes.items():
                pipe.send(work)
                found[work, program].append(pipe.recv())
            if gguf.exists():
                found[work, "llama.cpp"].append(llama(options.llama, gguf, work, options.threads))
    for pipe in pipes.values():
        pipe.send(None)
    bandwidth, rate = statistics.median(bandwidths), statistics.median(rates)
    limits = {work: limit(folder, kind, work, bandwidth, rate) for work in works}
    rows = []
    for work in works:
        speeds = {program: statistics.median(found[at, program]) for at, program in found if at == work}
        peer = max((speed for program, speed in speeds.items() if program != "troth"), default=float("nan"))
        for program, speed in speeds.items():
            rows.append({
                "kind": kind, "work": work, "program": program, "tokens_per_second": speed,
                "of_limit": speed / limits[work], "ratio": speed / peer,
                "read_gb_per_second": bandwidth / 1e9,
                "matrix_gflops": rate / 1e9,
            })  # fmt: skip
    return rows


def limit(folder: Path, kind: str, work: str, bandwidth: float, rate: float) -> float:
    """Tokens a second that the machine's limits leave."""
    config = read_config(folder)
    counts = count_parameters(config)
    expert = 3 * config.hidden_size * config.moe_intermediate_size
    routed = config.num_hidden_layers * config.num_experts * expert
    name, _, number = work.partition(" ")
    if name == "prefill":
        # The head is needed for the last token only.
        return rate / (2 * (counts.active - config.vocab_size * config.hidden_size))
    batch = int(number)
    chosen = 1 - (1 - config.num_experts_per_tok / config.num_experts) ** batch
    cached = batch * kv_cache_bytes(config, BEHIND + OUTPUT // 2, 4 if kind == "float32" else 2)
    return bandwidth * batch / (BITS[kind] / 8 * (counts.total - routed + chosen * routed) + cached)


def read_bandwidth(threads: int) -> float:
    """Bytes a second that a sum over 512 MiB reads."""
    torch.set_num_threads(threads)
    numbers = torch.ones(1 << 26, dtype=torch.int64)
    return max(numbers.nbytes / seconds for seconds in timed(5, numbers.sum))


def matrix_rate(threads: int) -> float:
    """Operations a second of a product of 2048 x 2048 matrices, in the faster of float32 and bfloat16."""
    torch.set_num_threads(threads)
    dtypes = (torch.float32, torch.bfloat16) if onednn_has_bf16() else (torch.float32,)
    matrices = [torch.randn(2048, 2048).to(dtype) for dtype in dtypes]
    return max(2 * 2048**3 / seconds for matrix in matrices for seconds in timed(4, partial(torch.mm, matrix, matrix)))


def timed(times: int, work: Any) -> Iterator[float]:
    """Seconds of each call but an untimed first one."""
    work()
    for _ in range(times):
        start = time.perf_counter()
        work()
        yield time.perf_counter() - start


def serve_troth(pipe: Any, folder: Path, kind: str, threads: int, most: int) -> None:
    """Steps of the engine; of each prompt length the second is timed."""
    engine = steps.start(folder, kind, threads, most)

    def prefill(length: int) -> float:
        steps.prefill(engine, length)
        return steps.prefill(engine, length)

    answer(pipe, prefill, partial(steps.decode, engine))


def serve_transformers(pipe: Any, folder: Path, kind: str, threads: int, most: int) -> None:
    """The same network there, with its fastest experts for small batches on a CPU; in float32 where torch multiplies
    bfloat16 number by number."""
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, kind if onednn_has_bf16() else "float32"), experts_implementation="grouped_mm"
    ).eval()

    @torch.inference_mode()
    def forward(ids: torch.Tensor, cache: Any = None) -> Any:
        return model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)

    def prefill(length: int) -> float:
        ids = torch.randint(0, 1_900, (1, length))
        return length / min(timed(1, lambda: forward(ids)))

    def decode(batch: int) -> float:
        found = forward(torch.randint(0, 1_900, (batch, BEHIND)))
        start = time.perf_counter()
        for _ in range(OUTPUT):
            found = forward(found.logits[:, -1:].argmax(-1), found.past_key_values)
        return batch * OUTPUT / (time.perf_counter() - start)

    answer(pipe, prefill, decode)


def answer(pipe: Any, prefill: Any, decode: Any) -> None:
    """Do what is asked, one work after the other, until there is none."""
    pipe.send("ready")
    while (work := pipe.recv()) is not None:
        name, _, number = work.partition(" ")
        pipe.send({"prefill": prefill, "decode": decode}[name](int(number)))


def llama(folder: Path, gguf: Path, work: str, threads: int) -> float:
    """Tokens a second of llama.cpp, which runs each work in a process that warms up first."""
    name, _, number = work.partition(" ")
    prompt, batch = (int(number), 1) if name == "prefill" else (BEHIND, int(number))
    command = [
        str(folder / "llama-batched-bench"), "-m", str(gguf), "-c", str(batch * (prompt + OUTPUT + 16)), "-b", "2048",
        "-ub", "512", "-npp", str(prompt), "-ntg", str(OUTPUT), "-npl", str(batch), "-t", str(threads),
        "--output-format", "jsonl",
    ]  # fmt: skip
    for _ in range(5):  # It prints from a thread of its own, which its end cuts off now and then.
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        if lines := [json.loads(line) for line in printed.splitlines() if line.startswith("{")]:
            return lines[-1]["speed_pp" if name == "prefill" else "speed_tg"]
    sys.exit(f"{command[0]} printed no results:\n{printed[-2000:]}")


if __name__ == "__main__":
    main()
