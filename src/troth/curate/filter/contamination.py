"""Text of benchmarks in training data: thirteen words in a row that a benchmark has too (GPT-3, Brown et al. 2020,
appendix C), case and punctuation aside. A paragraph that shares them goes; a text of which much is shared goes whole.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from troth.curate.filter.finding import Finding
from troth.curate.filter.words import Hashes, Words, among, grams

N = 13
SHORTEST = 8
"""Words of the shortest piece of a benchmark that is looked for whole; appendix C has 8 too."""
MAX_SHARE = 0.2
"""Share of the words of a text in shared runs above which the whole of it goes; ours."""


@dataclass(frozen=True)
class Benchmarks:
    """Hashes of what not to train on: for each n, runs of n words, sorted."""

    grams: tuple[tuple[int, Hashes], ...]

    def shared(self, words: Words) -> npt.NDArray[np.bool_]:
        """Which words, punctuation aside, stand in a run that a benchmark has; shape [words that are words]."""
        plain = words.lower[words.is_word]
        inside = np.zeros(len(plain) + 1, np.int64)
        for n, known in self.grams:
            at = np.flatnonzero(among(grams(plain, n), known))
            np.add.at(inside, at, 1)
            np.add.at(inside, at + n, -1)
        return np.cumsum(inside[:-1]) > 0


NO_BENCHMARKS = Benchmarks(())


@dataclass(frozen=True)
class Contamination:
    """`whole` is the share of a text's words that benchmarks have too; `paragraphs` are the places, `start` to `end`,
    of those that share any, with the number of shared words in each."""

    whole: Finding
    paragraphs: list[tuple[int, int, int]]


def contamination(words: Words, benchmarks: Benchmarks) -> Contamination:
    """What of a text benchmarks have too."""
    shared = benchmarks.shared(words)
    if not shared.any():
        return Contamination(Finding("benchmark", 0.0, MAX_SHARE), [])
    starts = words.starts[words.is_word][shared]
    found: list[tuple[int, int, int]] = []
    at = 0
    for paragraph in words.text.split("\n\n"):
        end = at + len(paragraph)
        count = int(np.count_nonzero((starts >= at) & (starts < end)))
        if count:
            found.append((at, end, count))
        at = end + 2
    return Contamination(Finding("benchmark", float(shared.mean()), MAX_SHARE), found)


@lru_cache(maxsize=4)
def read_benchmarks(paths: tuple[str, ...]) -> Benchmarks:
    """From files of text (a paragraph an item), JSON lines, CSV or Parquet, every text field counts. Raises ValueError
    naming a path that cannot be read."""
    runs: dict[int, list[Hashes]] = {}
    for path in paths:
        for item in _items(Path(path)):
            words = Words(item)
            plain = words.lower[words.is_word]
            n = min(N, len(plain))
            if n >= SHORTEST:
                runs.setdefault(n, []).append(grams(plain, n))
    return Benchmarks(tuple((n, np.unique(np.concatenate(found))) for n, found in sorted(runs.items())))


def _items(path: Path) -> Iterator[str]:
    try:
        match path.suffix.lower():
            case ".parquet":
                import pyarrow.parquet as pq

                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(1024):
                        for row in batch.to_pylist():
                            yield from _texts(row)
            case ".jsonl" | ".json":
                for line in path.read_text(encoding="utf-8").splitlines():
                    if line.strip():
                        yield from _texts(json.loads(line))
            case ".csv" | ".tsv":
                with path.open(encoding="utf-8", newline="") as lines:
                    for fields in csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ","):
                        yield from fields
            case _:
                yield from path.read_text(encoding="utf-8").split("\n\n")
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"curate.benchmarks: {path}: no text, JSON lines, CSV or Parquet: {error}") from error


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for one in value.values():
                yield from _texts(one)
        case list():
            for one in value:
                yield from _texts(one)
