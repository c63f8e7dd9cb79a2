"""Which tokens a step reads: a pure function of (seed, step), so that a resumed run reads the same stream.

Each collection is a stream of its documents, newly shuffled every epoch and cut into windows; a batch takes from
each collection its share by weight. A part of the windows is read sentence by sentence with a blank in each (`blanks`).
"""

from dataclasses import dataclass

import numpy as np

from troth.model.tokenizer import Tokenizer
from troth.train.blanks import Blanks
from troth.train.mixture import shares
from troth.train.shards import Shard


@dataclass(frozen=True)
class Batch:
    """`inputs`, `targets` and `documents` are [sequences, time]; a target of -100 carries no loss."""

    inputs: np.ndarray
    targets: np.ndarray
    documents: np.ndarray

    def rows(self, first: int, end: int) -> "Batch":
        """Some of the sequences."""
        return Batch(self.inputs[first:end], self.targets[first:end], self.documents[first:end])


class Batches:
    """Batches over collections by their weights; where no weight names any of them, by their sizes."""

    def __init__(
        self, shards: dict[str, Shard], weights: dict[str, float], tokenizer: Tokenizer,
        *, sequences: int, time: int, fill_in_middle: float, seed: int,
    ):  # fmt: skip
        share = shares({name: len(shard.tokens) for name, shard in shards.items()}, weights)
        self.names, self.share = list(share), np.array(list(share.values()))
        self.shards, self.sequences, self.time, self.seed = shards, sequences, time, seed
        self.fill_in_middle = fill_in_middle
        self.end_of_text = tokenizer.end_of_text
        self.blanks = Blanks(tokenizer)
        self._order: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step."""
        rows: list[np.ndarray] = []
        before, after = (self._taken(n * self.sequences) for n in (step, step + 1))
        for c, name in enumerate(self.names):
            for window in range(before[c], after[c]):
                rows.append(self._row(name, window))
        tokens = np.stack(rows)
        documents = np.cumsum(tokens == self.end_of_text, axis=1)
        targets = np.where(tokens == self.end_of_text, -100, tokens)[:, 1:]
        return Batch(tokens[:, :-1], targets, documents[:, :-1])

    def _taken(self, rows: int) -> np.ndarray:
        """How many of the first `rows` rows each collection gives: its share, to a row or two; it never falls."""
        taken = np.floor(np.maximum(0, rows - len(self.share)) * self.share + 0.5).astype(int)
        while taken.sum() < rows:
            taken[np.argmin((taken + 0.5) / self.share)] += 1
        return taken

    def _row(self, name: str, window: int) -> np.ndarray:
        random = np.random.default_rng((self.seed, self.names.index(name), window))
        tokens = self._window(name, window)
        return self.blanks.cut(tokens, random) if random.random() < self.fill_in_middle else tokens

    def _window(self, name: str, window: int) -> np.ndarray:
        """Window number `window` of the collection's endless shuffled stream, `time` + 1 tokens."""
        length = self.time + 1
        epoch, at = divmod(window * length, self.shards[name].epoch_tokens)
        parts = []
        while length > 0:
            part = self._slice(name, epoch, at, length)
            parts.append(part)
            length, epoch, at = length - len(part), epoch + 1, 0
        return np.concatenate(parts).astype(np.int64)

    def _slice(self, name: str, epoch: int, at: int, length: int) -> np.ndarray:
        shard = self.shards[name]
        if (name, epoch) not in self._order:
            random = np.random.default_rng((self.seed, self.names.index(name), epoch, 1))
            order = random.permutation(len(shard.ends))
            self._order = {key: kept for key, kept in self._order.items() if key[0] != name or key[1] == epoch - 1}
            self._order[name, epoch] = order, np.cumsum(shard.ends[order] - shard.starts[order])
        order, ends = self._order[name, epoch]
        parts = []
        i = int(np.searchsorted(ends, at, side="right"))
        while length > 0 and i < len(order):
            start = shard.ends[order[i]] - (ends[i] - at)
            part = shard.tokens[start : min(start + length, shard.ends[order[i]])]
            parts.append(part)
            at, length, i = at + len(part), length - len(part), i + 1
        return np.concatenate(parts)
