"""Which tokens a step reads: a pure function of (seed, step), so that a resumed run reads the same stream.

Each collection is a stream of its documents, newly shuffled every epoch and cut into windows; a batch takes from
each collection its share by weight. Part of the windows are rearranged for filling in the middle (Bavarian et al.,
2207.14255): stretches of text become prefix, suffix, middle, so that the model learns to fill a blank from both sides.
"""

from dataclasses import dataclass

import numpy as np

from troth.model.tokenizer import Tokenizer
from troth.train.shards import Shard

_STRETCH = 16, 64
_MIDDLE = 1, 10


@dataclass(frozen=True)
class Batch:
    """`inputs`, `targets` and `documents` are [sequences, time]; a target of -100 carries no loss."""

    inputs: np.ndarray
    targets: np.ndarray
    documents: np.ndarray


class Batches:
    """Batches over weighted collections. Raises ValueError where a weight names no collection or none is positive."""

    def __init__(
        self, shards: dict[str, Shard], weights: dict[str, float], tokenizer: Tokenizer,
        *, sequences: int, time: int, fill_in_middle: float, seed: int,
    ):  # fmt: skip
        weights = {name: weights.get(name, 0.0) for name in shards} if weights else dict.fromkeys(shards, 1.0)
        total = sum(weights.values())
        if total <= 0:
            raise ValueError(f"data.weights: none is positive for the collections {', '.join(sorted(shards))}")
        self.names = sorted(name for name, weight in weights.items() if weight > 0)
        self.bounds = np.cumsum([0.0, *(weights[name] / total for name in self.names)])
        self.bounds[-1] = 1.0
        self.shards, self.sequences, self.time, self.seed = shards, sequences, time, seed
        self.fill_in_middle = fill_in_middle
        self.end_of_text = tokenizer.end_of_text
        self.marks = [tokenizer.special[f"<|{name}|>"] for name in ("fim_prefix", "fim_suffix", "fim_middle", "end")]
        self._order: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step."""
        rows = []
        before, after = (np.floor(n * self.sequences * self.bounds + 1e-9).astype(int) for n in (step, step + 1))
        for c, name in enumerate(self.names):
            for window in range(before[c + 1] - before[c], after[c + 1] - after[c]):
                rows.append(self._row(name, window))
        tokens = np.stack(rows)
        documents = np.cumsum(tokens == self.end_of_text, axis=1)
        inputs, targets = tokens[:, :-1], tokens[:, 1:].copy()
        targets[targets == self.end_of_text] = -100
        return Batch(inputs, targets, documents[:, :-1])

    def _row(self, name: str, window: int) -> np.ndarray:
        random = np.random.default_rng((self.seed, self.names.index(name), window))
        tokens = self._window(name, window)
        return self._with_blanks(tokens, random) if random.random() < self.fill_in_middle else tokens

    def _window(self, name: str, window: int) -> np.ndarray:
        """Window number `window` of the collection's endless shuffled stream, `time` + 1 tokens."""
        length = self.time + 1
        epoch, at = divmod(window * length, len(self.shards[name].tokens))
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

    def _with_blanks(self, tokens: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Cut a window into stretches and move a few tokens of each behind the rest, at the window's length."""
        prefix, suffix, middle, end = self.marks
        out: list[int] = []
        at = 0
        while len(out) < len(tokens) and at < len(tokens):
            stretch = tokens[at : at + random.integers(*_STRETCH)]
            at += len(stretch)
            if stretch[0] == self.end_of_text:
                out.append(self.end_of_text)
                stretch = stretch[1:]
            boundary = np.flatnonzero(stretch == self.end_of_text)
            if len(boundary):
                at -= len(stretch) - boundary[0]
                stretch = stretch[: boundary[0]]
            if len(stretch) < 4:
                out.extend(stretch)
                continue
            size = int(random.integers(_MIDDLE[0], min(_MIDDLE[1], len(stretch) - 1)))
            cut = int(random.integers(0, len(stretch) - size + 1))
            out += [prefix, *stretch[:cut], suffix, *stretch[cut + size :], middle, *stretch[cut : cut + size], end]
        return np.array(out[: len(tokens)], dtype=np.int64)
