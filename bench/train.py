"""Training steps with their optimiser, here and in transformers' Trainer: tokens a second and memory.

    python bench/train.py [--batch 4] [--length 512] [--steps 12] [--adamw] [--json]
    python bench/train.py --ranks 2 [--batch 4] ...

The network is the Qwen3-MoE of bench/network.py (175 million parameters, 43 million active), trained on the same random
tokens in bf16: here by `troth.train.trainer` (float32 weights; AdamW for all, and, unless --adamw leaves it out, Muon
for matrices), there by Trainer (AdamW) with float32 weights under autocast, and once more with all in bf16. Where torch
multiplies bf16 number by number (see bench/network.py) all is in float32. Each program runs in a process of its own,
and they take their steps in turn; the first few are not counted. A row gives the median step, the ratio to the faster
of transformers' ways, the share of the matrix rate (see bench/network.py) and the most memory that the process had.

With --ranks the same batch is trained by one process with one thread and by so many over gloo, with one thread each, in
turn, in two layouts: weights shared out (dp_shard), and experts too (ep). Ideal is so many times the one's rate.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from idle import warn_if_busy
from model import SIZES, mini_sizes, write_weights
from network import DEVICE, has_bf16, matrix_rate
from rich.console import Console
from rich.progress import track

from troth.model.counts import forward_flops
from troth.model.families.configs import read_config
from troth.model.tokenizer import Tokenizer
from troth.system import ParallelTable, TrainTable
from troth.train.batches import Batch
from troth.train.job import Job
from troth.train.parallel.ranks import Ranks, joined
from troth.train.trainer import train

NARROW = has_bf16()
OURS = "troth, AdamW", "troth, Muon and AdamW"
PEERS = ("Trainer, autocast", "Trainer, all in bf16") if NARROW else ("Trainer, float32",)
UNTIMED = 3


def main() -> None:
    """Run, print a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4, help="sequences of a step")
    parser.add_argument("--length", type=int, default=512, help="tokens of a sequence")
    parser.add_argument("--steps", type=int, default=12, help="timed steps of each program")
    parser.add_argument("--adamw", action="store_true", help="leave out Muon, whose products take most of its steps")
    parser.add_argument("--ranks", type=int, help="how training scales over so many processes of one thread")
    parser.add_argument("--mini", action="store_true", help="layers of the sizes of the system mini")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    with tempfile.TemporaryDirectory() as folder:
        write_weights(Path(folder), SIZES | (mini_sizes() if options.mini else {}))
        if options.ranks:
            rows = scaling(Path(folder), options.ranks, options.batch, options.length, options.steps)
        else:
            programs = OURS[: 1 if options.adamw else 2] + PEERS
            rows = run(Path(folder), programs, options.batch, options.length, options.steps)
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        if options.ranks:
            print(
                f"{row['layout']:<22} {row['tokens_per_second']:>9,.0f} tokens/s, alone {row['alone']:,.0f}:"
                f" {row['ratio']:.2f}x of an ideal {row['ideal']:.0f}x ({row['ratio'] / row['ideal']:.0%})"
            )
            continue
        print(
            f"{row['program']:<22} {row['tokens_per_second']:>9,.0f} tokens/s  {row['of_limit']:>4.0%} of the limit"
            f"  {row['ratio']:>5.2f}x  {row['memory_gib']:>6.2f} GiB"
        )


def run(folder: Path, programs: tuple[str, ...], batch: int, length: int, steps: int) -> list[dict[str, Any]]:
    """A row for each program."""
    processes = multiprocessing.get_context("spawn")
    pipes, times, limits = {}, {program: [] for program in programs}, []
    memory: dict[str, float] = {}
    for program in programs:
        pipes[program], there = processes.Pipe()
        processes.Process(target=contestant, args=(there, folder, program, batch, length), daemon=True).start()
    for program in programs:  # Each is ready before its first step.
        pipes[program].recv()
    for step in track(range(UNTIMED + steps), "rounds of steps", console=Console(stderr=True)):
        if step >= UNTIMED:
            limits.append(matrix_rate(torch.bfloat16 if NARROW else torch.float32))
        for program in programs:
            pipes[program].send("go")
            seconds, memory[program] = pipes[program].recv()
            if step >= UNTIMED:
                times[program].append(seconds)
    medians = {program: statistics.median(measured) for program, measured in times.items()}
    peer = min(medians[program] for program in PEERS)
    operations, tokens = 3 * sum(forward_flops(read_config(folder), length).values()), batch * length
    return [
        {
            "program": program, "device": DEVICE, "sequences": batch, "length": length,
            "tokens_per_second": tokens / median, "of_limit": operations * tokens / median / statistics.median(limits),
            "ratio": peer / median, "memory_gib": memory[program],
        }
        for program, median in medians.items()
    ]  # fmt: skip


def scaling(folder: Path, ranks: int, batch: int, length: int, steps: int) -> list[dict[str, Any]]:
    """A row for each layout, with the one process that it took turns with."""
    processes = multiprocessing.get_context("spawn")
    rows = []
    for number, layout in enumerate(({"dp_shard": ranks}, {"dp_shard": ranks, "ep": ranks})):
        with tempfile.TemporaryDirectory() as runs:
            pipes, started = [], []
            for world, own in ((1, {}), (ranks, layout)):
                here, there = processes.Pipe()
                pipes.append(here)
                for rank in range(world):
                    place = {"RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "localhost", "LOCAL_RANK": rank}
                    place = {key: str(value) for key, value in place.items()} | {"MASTER_PORT": str(29611 + number)}
                    words = (there if rank == 0 else None, folder, f"{runs}/{world}", own, place, batch, length)
                    started.append(processes.Process(target=of_ranks, args=words, daemon=True))
                    started[-1].start()
            for pipe in pipes:
                pipe.recv()
            times: list[list[float]] = [[], []]
            for step in range(UNTIMED + steps):
                for pipe, own_times in zip(pipes, times, strict=True):
                    pipe.send("go")
                    seconds, _ = pipe.recv()
                    own_times += [seconds] * (step >= UNTIMED)
            for process in started:
                process.kill()
                process.join()
        alone, spread = (batch * length / statistics.median(own_times) for own_times in times)
        rows.append(
            {
                "layout": ", ".join(f"{name} {size}" for name, size in layout.items()), "sequences": batch,
                "length": length, "tokens_per_second": spread, "alone": alone, "ratio": spread / alone,
                "ideal": float(ranks),
            }
        )  # fmt: skip
    return rows


def of_ranks(
    pipe: Any, folder: Path, run: str, layout: dict[str, int], place: dict[str, str], batch: int, length: int
) -> None:
    """One rank of a training, with one thread; the first has the pipe."""
    os.environ |= place if place["WORLD_SIZE"] != "1" else {}
    torch.set_num_threads(1)
    with joined("cpu") as ranks:
        job = job_of(folder, "adamw", batch, length, parallel=ParallelTable(**layout))
        train(job, Path(run), turns(pipe) if ranks.first else lambda metrics: None, ranks)


def contestant(pipe: Any, folder: Path, program: str, batch: int, length: int) -> None:
    """Train until the parent is gone, a step each time that it says so."""
    (ours if program.startswith("troth") else theirs)(folder, program, batch, length, turns(pipe))


def turns(pipe: Any) -> Callable[..., None]:
    """To be called between steps: tells how long the last took, and waits for leave to go on."""
    began = 0.0

    def between_steps(*_: Any) -> None:
        nonlocal began
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        try:
            pipe.send((time.perf_counter() - began, memory_gib()))
            pipe.recv()
        except (EOFError, BrokenPipeError):
            sys.exit()
        began = time.perf_counter()

    return between_steps


def memory_gib() -> float:
    """The most that this process, or its part of the device, has had."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class RandomRows:
    """Rows of random tokens, each one document."""

    def __init__(self, vocabulary: int, length: int):
        self.vocabulary, self.length = vocabulary, length

    def rows(self, first: int, last: int) -> Batch:
        tokens = np.random.default_rng(first).integers(0, self.vocabulary, (last - first, self.length + 1))
        return Batch(tokens[:, :-1], tokens[:, 1:], np.zeros((last - first, self.length), dtype=np.int64))


def ours(folder: Path, program: str, batch: int, length: int, between_steps: Callable[..., None]) -> None:
    job = job_of(folder, "muon" if "Muon" in program else "adamw", batch, length)
    with tempfile.TemporaryDirectory() as run:
        train(job, Path(run), between_steps, Ranks(0, 1, DEVICE))


def job_of(folder: Path, optimizer: str, batch: int, length: int, **more: Any) -> Job:
    config = read_config(folder)
    settings = TrainTable(
        steps=10**6, batch_tokens=batch * length, sequence_length=length, log_every=1, checkpoint_every=10**6,
        optimizer=optimizer, precision="bf16" if NARROW else "float32",
    )  # fmt: skip
    rows = RandomRows(config.vocab_size, length)
    return Job(config, settings, Tokenizer.train(iter(["some words " * 99]), 270), rows, {}, start=folder, **more)


def theirs(folder: Path, program: str, batch: int, length: int, between_steps: Callable[..., None]) -> None:
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    class Turns(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            between_steps()

    dtype = torch.bfloat16 if "all" in program else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, experts_implementation="grouped_mm")
    rows = RandomRows(model.config.vocab_size, length)

    class Tokens(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 10**6

        def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
            row = torch.from_numpy(rows.rows(number, number + 1).inputs[0])
            return {"input_ids": row, "labels": row}

    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, per_device_train_batch_size=batch, max_steps=10**6, bf16=NARROW, save_strategy="no", report_to=[],
            logging_strategy="no", disable_tqdm=True, use_cpu=DEVICE == "cpu",
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=Tokens(), callbacks=[Turns()]).train()


if __name__ == "__main__":
    main()
