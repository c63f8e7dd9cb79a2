"""Steps of the engine in the compiled library, for each kind of processor that it is built for, and in torch; with and
without LoRA adapters.

    python bench/kernels.py [--kernels avx512 avx2 none] [--kinds bfloat16] [--batches 1 8] [--rank 16]
                            [--rounds 3] [--threads 2] [--json]

The network is the random Qwen3-MoE of bench/model.py: 175 million parameters, 43 million active. `adapted` texts have
adapters of this rank of attention and all experts, two adapters in turn. Decode are 32 tokens of each text of a batch
behind prompts of 128 tokens, prefill one prompt of 512; whole engine steps, scheduling and sampling included. Each
round runs every engine once, in turn; a row gives the median of the rounds. `none` is torch; all kinds of this
machine's processors are the default.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import steps
import torch
from idle import warn_if_busy
from model import SIZES, write_model

PROMPT = 512
ADAPTERS = "first", "second"


def main() -> None:
    """Run, print a table, or JSON with --json."""
    from troth.serve.engine.cpu.library import KERNELS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", nargs="+", default=[*KERNELS, "none"])
    parser.add_argument("--kinds", nargs="+", default=["bfloat16"], choices=["float32", "bfloat16", "int8", "int4"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        write_model(folder, SIZES)
        write_adapters(folder, Path(name), options.rank)
        rows = [row for kind in options.kinds for row in run(folder, kind, options)]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['kind']:<9} {row['work']:<18} {row['kernels']:<12} {row['tokens_per_second']:>8,.0f} tokens/s")


def write_adapters(folder: Path, beside: Path, rank: int) -> None:
    """Random adapters of everything that LoRA adapts by default."""
    from troth.model.adapters import save_adapters
    from troth.model.families.weights import load_weights
    from troth.model.lora import adapt
    from troth.train.lora import adapters, lora_names

    for name in ADAPTERS:
        model = load_weights(folder, torch.float32, "cpu")
        adapt(model, lora_names(model.config), rank, alpha=rank)
        with torch.no_grad():
            for _, parameter in adapters(model):
                parameter.normal_(0, 0.02)
        save_adapters(model, beside / name, str(folder))


def run(folder: Path, kind: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one kind of weights. Each engine has a process of its own, whose environment names its kernels."""
    works = [f"prefill {PROMPT}", *(f"decode {batch}" for batch in options.batches)]
    works += [f"{work} adapted" for work in works]
    processes = multiprocessing.get_context("spawn")
    pipes = {}
    for kernels in options.kernels:
        os.environ["TROTH_KERNELS"] = kernels
        pipes[kernels], there = processes.Pipe()
        processes.Process(target=serve, args=(there, folder, kind, kernels, options.threads), daemon=True).start()
        pipes[kernels].recv()
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        for work in works:
            for kernels, pipe in pipes.items():
                pipe.send(work)
                found[work, kernels].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(None)
    return [
        {"kind": kind, "work": work, "kernels": kernels, "tokens_per_second": statistics.median(found[work, kernels])}
        for work in works
        for kernels in pipes
    ]


def serve(pipe: Any, folder: Path, kind: str, kernels: str, threads: int) -> None:
    """An engine that does the work that it is told."""
    from troth.serve.engine.cpu.runner import CpuRunner

    folders = {name: folder.parent / name for name in ADAPTERS}
    engine = steps.start(folder, kind, threads, 32, folders, library=kernels != "none")
    assert isinstance(engine.runner, CpuRunner) is (kernels != "none"), f"{kernels} is not what this machine runs"
    steps.prefill(engine, PROMPT)
    pipe.send("ready")
    while (work := pipe.recv()) is not None:
        name, number, *adapted = work.split()
        if name == "prefill":
            pipe.send(steps.prefill(engine, int(number), ADAPTERS[0] if adapted else None))
        else:
            pipe.send(steps.decode(engine, int(number), ADAPTERS if adapted else (None,)))


if __name__ == "__main__":
    main()
