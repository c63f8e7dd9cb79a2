"""Batches of chats for supervised fine-tuning: a pure function of (seed, row), as `batches` are of documents.

Several chats share a row, each a document of its own; only what the assistant says carries loss.
"""

import numpy as np

from troth.train.batches import Batch
from troth.train.examples import Examples
from troth.train.packing import Order, pack


class Chats:
    """Rows of `time` tokens over tokenised chats.

    A chat of more than `time` + 1 tokens is cut at its end: `cut` counts these, and `lost` those of them that are left
    out, because no token that carries loss remained. An epoch has `epoch_rows` rows; `filled` is the share of their
    places that chats take. Raises ValueError where nothing remains.
    """

    def __init__(self, examples: Examples, *, time: int, seed: int, padding: int):
        self.examples, self.time, self.padding = examples, time, padding
        self.version = examples.sha256
        lengths = examples.ends - examples.starts - 1
        kept = np.flatnonzero(examples.firsts <= time)
        if not len(kept):
            raise ValueError(f"train.sequence_length={time}: no chat has an answer that begins so early; raise it")
        self.cut, self.lost = int((lengths > time).sum()), len(lengths) - len(kept)
        packed = pack(np.minimum(lengths[kept], time), time)
        self._packed = [kept[row] for row in packed]
        self.filled = float(np.minimum(lengths[kept], time).sum() / (len(packed) * time))
        self._order = Order(len(packed), seed)

    @property
    def epoch_rows(self) -> int:
        """Rows of an epoch."""
        return len(self._packed)

    def rows(self, first: int, last: int) -> Batch:
        """Rows from `first` up to `last`, which is left out, numbered over the whole run."""
        shape = last - first, self.time
        inputs, targets = np.full(shape, self.padding, dtype=np.int64), np.full(shape, -100, dtype=np.int64)
        documents = np.zeros(shape, dtype=np.int64)
        for row in range(last - first):
            members = self._packed[self._order[first + row]]
            at = 0
            for number, i in enumerate(members):
                self.examples.lay(i, at, inputs[row], targets[row])
                documents[row, at:] = number
                at += min(int(self.examples.ends[i] - self.examples.starts[i]) - 1, self.time)
            documents[row, at:] = len(members)
        return Batch(inputs, targets, documents)
