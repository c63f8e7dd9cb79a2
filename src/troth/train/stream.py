"""The documents of a collection without end, in an order of its own every epoch, to be read from any place.

An epoch shuffles the files of the collection, takes them in groups, and shuffles the documents of each group. So the
order follows from seed, name and files alone, and at any time only one group has to be at hand and the next on its way.
"""

import zlib
from bisect import bisect_right
from typing import Any

import numpy as np

from troth.train.shards import GROUP, Collection

_FILES, _DOCUMENTS = 0, 1
"""What a random generator is for; its seed begins (seed, this, collection)."""
_KEPT = 2
"""The group that is read and the one before it, since a batch may reach over the border."""


class Stream:
    """A collection's tokens by position: epoch after epoch, each token once an epoch (times its document's weight)."""

    def __init__(self, collection: Collection, seed: int):
        self.collection, self.seed = collection, seed
        self.key = zlib.crc32(collection.name.encode())
        self.sizes = np.array([collection.epoch_tokens(file) for file in range(len(collection.files))])
        self.epoch_tokens = int(self.sizes.sum())
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._groups: dict[tuple[int, int], _Group] = {}

    def read(self, at: int, out: np.ndarray) -> None:
        """Fill `out` with the tokens from position `at` on."""
        filled = 0
        while filled < len(out):
            epoch, place = divmod(at + filled, self.epoch_tokens)
            ends = self._epoch(epoch)[1]
            group = int(np.searchsorted(ends, place, side="right"))
            before = int(ends[group - 1]) if group else 0
            filled += self._group(epoch, group).read(place - before, out[filled:])

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the files in an epoch, and where each group of them ends."""
        if epoch not in self._epochs:
            order = np.random.default_rng((self.seed, _FILES, self.key, epoch)).permutation(len(self.sizes))
            ends = np.cumsum(self.sizes[order])
            last = np.minimum(np.arange(GROUP, len(order) + GROUP, GROUP), len(order)) - 1
            _forget(self._epochs)
            self._epochs[epoch] = order, ends[last]
        return self._epochs[epoch]

    def _group(self, epoch: int, group: int) -> "_Group":
        if (epoch, group) not in self._groups:
            now = self._files(epoch, group)
            following = (epoch, group + 1) if group + 1 < len(self._epoch(epoch)[1]) else (epoch + 1, 0)
            self.collection.ahead([*now, *self._files(*following)])
            random = np.random.default_rng((self.seed, _DOCUMENTS, self.key, epoch, group))
            _forget(self._groups)
            self._groups[epoch, group] = _Group(self.collection, now, random)
        return self._groups[epoch, group]

    def _files(self, epoch: int, group: int) -> list[int]:
        return self._epoch(epoch)[0][group * GROUP : (group + 1) * GROUP].tolist()


def _forget(kept: dict[Any, Any]) -> None:
    """Make room for one more."""
    if len(kept) == _KEPT:
        del kept[next(iter(kept))]


class _Group:
    """A few files, laid end to end, and an order of their documents."""

    def __init__(self, collection: Collection, files: list[int], random: np.random.Generator):
        shards = [collection.open(file) for file in files]
        self.tokens = [shard.tokens for shard in shards]
        self.bases = np.cumsum([0, *(len(tokens) for tokens in self.tokens[:-1])]).tolist()
        starts = np.concatenate([shard.starts + base for shard, base in zip(shards, self.bases, strict=True)])
        ends = np.concatenate([shard.ends + base for shard, base in zip(shards, self.bases, strict=True)])
        order = random.permutation(len(starts))
        starts, ends = starts[order], ends[order]
        self.ends = np.cumsum(ends - starts)
        """Where each document ends in the order in which they are read."""
        self.shifts = ends - self.ends
        """How much further it lies in the files."""

    def read(self, at: int, out: np.ndarray) -> int:
        """Fill `out` from position `at` on, as far as the group goes, and return how many tokens that were."""
        stop = min(at + len(out), int(self.ends[-1]))
        first, last = np.searchsorted(self.ends, (at, stop - 1), side="right")
        here = at
        ends = self.ends[first : last + 1].tolist()
        for end, shift in zip(ends, self.shifts[first : last + 1].tolist(), strict=True):
            there = min(end, stop)
            file = bisect_right(self.bases, here + shift) - 1
            source = here + shift - self.bases[file]
            out[here - at : there - at] = self.tokens[file][source : source + there - here]
            here = there
        return stop - at
