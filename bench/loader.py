"""The loader alone, in tokens a second, beside torch's DataLoader over the same files and the machine's memory rate.

    python bench/loader.py [--rows 16] [--time 4096] [--tokens 96] [--rounds 5] [--json]

Three collections, of `--tokens` million tokens together, have documents of about 800 tokens (log-normal, as web pages
are), 4 bytes a token. `troth` gives rows through Prefetch, one background thread; `troth, no thread` calls Batches. The
peer is a DataLoader with two workers, the common way without shuffled documents: each row is one slice of a memory map,
and a worker computes the same targets and documents. Each round times every program once, in turn; a row gives the
median. `of the limit` is the rate over that of copying as many bytes (24 a token) by memcpy. The second table is
`write_shards` on real text (the sources of the standard library) beside tiktoken's own batches, which write nothing.
"""

import argparse
import json
import os
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from idle import warn_if_busy
from torch.utils.data import DataLoader, Dataset

from troth.model.tokenizer import Tokenizer
from troth.train.batches import Batches
from troth.train.prefetch import Prefetch
from troth.train.shards import ShardWriter, open_shards, write_shards

BYTES = Tokenizer({bytes([byte]): byte for byte in range(256)})
"""Its end-of-text token is all that the loader needs to know."""
WEIGHTS = {"web": 0.7, "code": 0.2, "books": 0.1}
VOCABULARY = 128_000
SECONDS = 1.0
MEMORY = 2**28
"""More bytes than any cache holds."""
WORKERS = 2


def main() -> None:
    """Run, print tables, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16, help="rows of a batch")
    parser.add_argument("--time", type=int, default=4096, help="tokens of a row")
    parser.add_argument("--tokens", type=int, default=96, help="million tokens of the collections together")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_collections(Path(folder), options.tokens * 1_000_000)
        loading = load(Path(folder), options.rows, options.time, options.rounds)
        tokenising = tokenise(Path(folder) / "text", options.rounds)
    if options.json:
        print(json.dumps({"loading": loading, "tokenising": tokenising}, indent=2))
        return
    for row in loading:
        print(
            f"load      {row['program']:<28} {row['tokens_per_second']:>13,.0f} tokens/s"
            f"  {row['of_limit']:>5.1%} of the limit  {row['ratio']:>6.2f}x"
        )
    for row in tokenising:
        print(f"tokenise  {row['program']:<28} {row['mb_per_second']:>13,.1f} MB/s  {row['ratio']:>6.2f}x")


def write_collections(folder: Path, tokens: int) -> None:
    """Shards of random documents."""
    random = np.random.default_rng(0)
    writer = ShardWriter(folder, VOCABULARY, BYTES.end_of_text)
    for name in WEIGHTS:
        left = tokens // len(WEIGHTS)
        while left > 0:
            lengths = np.maximum(2, random.lognormal(6.2, 1.0, 1000)).astype(int)
            ids = random.integers(BYTES.vocab_size, VOCABULARY, lengths.sum(), dtype=np.uint32)
            ids[np.cumsum(lengths) - lengths] = BYTES.end_of_text
            writer.add(name, ids, lengths.tolist(), [1.0] * len(lengths))
            left -= len(ids)
    writer.close()


def load(folder: Path, rows: int, time_: int, rounds: int) -> list[dict[str, Any]]:
    """The rows of the loaders."""
    collections = open_shards(folder)

    def ours() -> Iterator[Any]:
        batches = Batches(collections, WEIGHTS, BYTES, time=time_, fill_in_middle=0.0, seed=0)
        return (batches.rows(first, first + rows) for first in range(0, 10**9, rows))

    def prefetched() -> Iterator[Any]:
        with Prefetch(ours()) as ready:
            yield from ready

    def theirs() -> Iterator[Any]:
        return iter(DataLoader(Windows(folder, time_), batch_size=rows, shuffle=True, num_workers=WORKERS))

    batch_bytes = 24 * rows * time_
    source, target = (np.ones((max(1, MEMORY // batch_bytes), batch_bytes), dtype=np.uint8) for _ in range(2))

    def copies() -> Iterator[Any]:
        while True:
            for here, there in zip(target, source, strict=True):
                here[:] = there
                yield

    peer = f"DataLoader, {WORKERS} workers"
    programs = {"troth": prefetched, "troth, no thread": ours, peer: theirs, "memcpy": copies}
    rates = {
        name: median * rows * time_
        for name, median in medians({n: (p, batch_rate) for n, p in programs.items()}, rounds)
    }
    return [
        {
            "program": name, "tokens_per_second": rate, "of_limit": rate / rates["memcpy"], "ratio": rate / rates[peer],
            "cores": os.cpu_count(), "rows": rows, "time": time_,
        }
        for name, rate in rates.items()
    ]  # fmt: skip


class Windows(Dataset):
    """Slices of one memory map, with the targets and documents that a packed row needs."""

    def __init__(self, folder: Path, time_: int):
        shards = [c.open(file) for c in open_shards(folder).values() for file in range(len(c.files))]
        self.tokens, self.time = max((shard.tokens for shard in shards), key=len), time_

    def __len__(self) -> int:
        return len(self.tokens) // (self.time + 1)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        start = row * (self.time + 1)
        window = torch.from_numpy(self.tokens[start : start + self.time + 1].astype(np.int64))
        begins = window == BYTES.end_of_text
        return window[:-1], torch.where(begins, -100, window)[1:], torch.cumsum(begins[:-1], 0)


def batch_rate(batches: Iterable[Any]) -> float:
    """Batches a second, after a few that nobody times."""
    count = 0
    start = 0.0
    for count, _ in enumerate(batches, start=-3):
        if count == 0:
            start = time.perf_counter()
        elif count > 0 and time.perf_counter() - start > SECONDS:
            break
    return count / (time.perf_counter() - start)


def tokenise(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """The rows of tokenising."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    size = sum(len(text.encode()) for text in texts)
    tokenizer = Tokenizer.train(iter(texts), 16_384)

    def ours() -> None:
        write_shards((("code", text) for text in texts), tokenizer, folder)

    def batches() -> None:
        tokenizer.encoding.encode_ordinary_batch(texts, num_threads=os.cpu_count() or 1)

    def call_rate(work: Callable[[], None]) -> float:
        start = time.perf_counter()
        work()
        return size / (time.perf_counter() - start) / 1e6

    peer = "tiktoken, batches of lists"
    rates = dict(medians({"troth": (lambda: ours, call_rate), peer: (lambda: batches, call_rate)}, rounds))
    return [
        {"program": name, "mb_per_second": rate, "ratio": rate / rates[peer], "cores": os.cpu_count()}
        for name, rate in rates.items()
    ]


def medians(programs: dict[str, tuple[Callable[[], Any], Callable[[Any], float]]], rounds: int) -> Iterator[Any]:
    """The name of each program with the median of its rates, each measured once a round."""
    found: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, (program, measure) in programs.items():
            found[name].append(measure(program()))
    yield from ((name, statistics.median(rates)) for name, rates in found.items())


if __name__ == "__main__":
    main()
