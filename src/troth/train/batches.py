"""Which tokens a row of a run holds: a pure function of (seed, row), so that any ranks read the same stream.

Each row is a window of its collection's stream (`stream`), and collections take turns by their shares (`mixture`). A
part of the windows is read sentence by sentence with a blank in each (`blanks`). Documents are packed without gaps, and
attention keeps to each (`documents`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from troth.model.tokenizer import Tokenizer
from troth.system import Stage
from troth.train.blanks import Blanks
from troth.train.mixture import Mixture
from troth.train.shards import Collection
from troth.train.stream import Stream

_BLANKS = 2
"""Beside what `stream` has random generators for."""


@dataclass(frozen=True)
class Batch:
    """`inputs`, `targets` and `documents` are [rows, time]; a target of -100 carries no loss."""

    inputs: np.ndarray
    targets: np.ndarray
    documents: np.ndarray

    @property
    def count(self) -> int:
        """How many targets there are: the loss is the mean over those of all ranks."""
        return int((self.targets >= 0).sum())


class Batches:
    """Rows over collections by their weights; where no weight names any of them, by their sizes.

    `rows` is the length of the whole run, by which `stages` are placed. Raises ValueError as `Mixture` does.
    """

    def __init__(
        self, collections: Mapping[str, Collection], weights: Mapping[str, float], tokenizer: Tokenizer,
        *, time: int, fill_in_middle: float, seed: int, rows: int = 0, stages: Sequence[Stage] = (),
    ):  # fmt: skip
        sizes = {name: collection.size for name, collection in collections.items()}
        self.mixture = Mixture(sizes, weights, stages, rows)
        self.streams = {name: Stream(collections[name], seed) for name in self.mixture.names}
        self.time, self.seed, self.fill_in_middle = time, seed, fill_in_middle
        told = {collection.begin for collection in collections.values() if collection.begin is not None}
        self.begin = told.pop() if told else tokenizer.end_of_text
        self.blanks = Blanks(tokenizer) if fill_in_middle else None

    def rows(self, first: int, last: int) -> Batch:
        """Rows from `first` up to `last`, which is left out, numbered over the whole run."""
        tokens = np.empty((last - first, self.time + 1), dtype=np.int64)
        for row, out in enumerate(tokens, start=first):
            self._fill(row, out)
        begins = tokens == self.begin
        targets = np.where(begins[:, 1:], -100, tokens[:, 1:])
        return Batch(tokens[:, :-1], targets, np.cumsum(begins[:, :-1], axis=1))

    def _fill(self, row: int, out: np.ndarray) -> None:
        name, window = self.mixture[row]
        self.streams[name].read(window * len(out), out)
        if self.blanks:
            random = np.random.default_rng((self.seed, _BLANKS, self.streams[name].key, window))
            if random.random() < self.fill_in_middle:
                out[:] = self.blanks.cut(out, random)


class Windows:
    """The documents of a collection in rows of `time` tokens, each the target of the one before it once (times its
    document's weight). As in training, the token `begin` that documents begin with is none."""

    def __init__(self, collection: Collection, begin: int, time: int):
        self.stream, self.begin, self.time = Stream(collection, seed=0), begin, time
        self.version = collection.version

    @property
    def epoch_rows(self) -> int:
        """Rows that end with the last token."""
        return max(1, -(-(self.stream.epoch_tokens - 1) // self.time))

    def rows(self, first: int, last: int) -> Batch:
        """Rows from `first` up to `last`, which is left out."""
        tokens = np.empty((last - first, self.time + 1), dtype=np.int64)
        for row, out in enumerate(tokens, start=first):
            self.stream.read(row * self.time, out)
        # What comes after the last token is the first again.
        places = np.arange(first, last)[:, None] * self.time + np.arange(1, self.time + 1)
        begins = tokens == self.begin
        targets = np.where(begins[:, 1:] | (places >= self.stream.epoch_tokens), -100, tokens[:, 1:])
        return Batch(tokens[:, :-1], targets, np.cumsum(begins[:, :-1], axis=1))
