"""Which sentences of the store stand nearest to one, and whether it is nearest to them too.

How much two sentences have in common is the summed rarity of the stems they share. Each sentence of the store has its
nearest ones found once, so that whether two are each other's nearest costs a look, not a search.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from troth.curate.validate.mapped import Pieces
from troth.curate.validate.store import Bags, Store, mark

_FAR = 16
_NOBODY = -1
_TOGETHER = 1 << 10
NEAR = np.dtype([("at", "<i8"), ("closeness", "<f8")])


@dataclass(frozen=True)
class Place:
    """Where a sentence stands: its document and first character; and whose it is, said when."""

    source: str
    start: int
    publisher: str
    published: str

    def compared(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of some sentences' places (see `Store.places`) are of this publisher, and which of these stand
        elsewhere and are of the same date."""
        start, source, publisher, published = places.T
        own = publisher == mark(self.publisher)
        elsewhere = (source != mark(self.source)) | (start != self.start)
        return own, own & elsewhere & (published == mark(self.published))


@dataclass(frozen=True)
class Neighbours:
    """The sentences nearest to one, nearest first, with how close they are."""

    at: list[int]
    closeness: list[float]


def find_neighbours(store: Store, text: str, place: Place, limit: int) -> tuple[Neighbours, Neighbours]:
    """Search for a sentence that need not be in the store: those of other publishers, at most so many, and those that
    its own says elsewhere at the same time, at most half as many."""
    words = frozenset(stem for stem in store.stem(text) if not stem & 1)
    at_N = np.array(store.search(text, 3 * limit), np.int64)
    own_N, elsewhere_N = place.compared(store.places(at_N))
    others = np.flatnonzero(~own_N)[:limit]
    at_N = at_N[np.concatenate([others, np.flatnonzero(elsewhere_N)[: limit // 2]])]
    bags = store.bags(at_N)
    close = (store.shared(words, bags) / spread(bags.whole)).tolist()
    at = at_N.tolist()
    return _ordered(at[: len(others)], close[: len(others)]), _ordered(at[len(others) :], close[len(others) :])


def _ordered(at: list[int], close: list[float]) -> Neighbours:
    order = sorted(range(len(close)), key=close.__getitem__, reverse=True)
    return Neighbours([at[number] for number in order], [close[number] for number in order])


def spread(whole: np.ndarray) -> np.ndarray:
    """The norm of sentences by their summed rarity. What a sentence shares with one, divided by this, is how much of
    that one it covers."""
    return np.array([max(1e-9, weight) ** 0.5 for weight in whole.tolist()])


def write_neighbours(store: Store, first: int, last: int, limit: int, path: Path) -> None:
    """The neighbours of the store's sentences `first` to `last`, as rows [limit + limit // 2] of (at, closeness): those
    of other publishers and then its own publisher's, nearest first, each filled up with nobody."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        for start in range(first, last, _TOGETHER):
            rows = np.full((min(last - start, _TOGETHER), limit + limit // 2), _NOBODY, NEAR)
            for row, at in zip(rows, range(start, last), strict=False):
                said = store.get(at)
                place = Place(said.speaker.source, said.start, said.speaker.publisher, said.speaker.published)
                for begin, near in zip((0, limit), find_neighbours(store, said.text, place, limit), strict=True):
                    row["at"][begin : begin + len(near.at)] = near.at
                    row["closeness"][begin : begin + len(near.at)] = near.closeness
            rows.tofile(file)
            store.let_go()
    partial.rename(path)


class KnownNeighbours:
    """What `write_neighbours` wrote of all sentences of a store, row by row as it is asked for."""

    def __init__(self, files: Sequence[Path], limit: int):
        self.limit = limit
        self._width = limit + limit // 2
        self._size = self._width * NEAR.itemsize
        self._near = [Pieces(path) for path in files]
        self._starts = list(accumulate((path.stat().st_size // self._size for path in files), initial=0))

    def of(self, at: int) -> list[int]:
        """The neighbours of one sentence."""
        row = self.rows([at])[0]["at"]
        found: list[int] = row[row != _NOBODY].tolist()
        return found

    def rows(self, at: Sequence[int]) -> np.ndarray:
        """The rows of some sentences [N, limit + limit // 2]."""
        return np.frombuffer(b"".join(map(self._row, at)), NEAR).reshape(-1, self._width)

    def _row(self, at: int) -> bytes:
        part = bisect_right(self._starts, at) - 1
        start = (at - self._starts[part]) * self._size
        return self._near[part].read(start, start + self._size)


class Circle:
    """The H neighbours of a sentence that stands at a place, with all that its values have in common there: the
    neighbours' stems, and how close to each of them its own neighbours [N] are."""

    def __init__(self, store: Store, known: KnownNeighbours, near: list[int], place: Place, weight: float):
        self._store = store
        at_H = np.array(near, np.int64)
        self.bags: Bags = store.bags(at_H)
        self._spread = max(1e-9, weight) ** 0.5
        self._spread_H = spread(self.bags.whole)
        publisher_H = store.places(at_H)[:, 2]
        self._same_HH = publisher_H[:, None] == publisher_H
        self._earlier_HH = np.tri(len(near), k=-1, dtype=bool) & self._same_HH
        publisher = mark(place.publisher)
        rows_HN = known.rows(near)
        there_HN = rows_HN["at"] != _NOBODY
        own_H = publisher_H == publisher
        there_HN[own_H, : known.limit] = there_HN[~own_H, known.limit :] = False
        self._close_HN = np.where(there_HN, rows_HN["closeness"], -np.inf)
        self._there_H = there_HN.sum(axis=1)
        start, source, who, _ = store.places(rows_HN["at"][there_HN]).T
        self._counted_HN = there_HN.copy()
        self._counted_HN[there_HN] = (who == publisher) & ((source != mark(place.source)) | (start != place.start))

    def mutual(self, words: frozenset[int]) -> list[float]:
        """How near these words of the sentence and each neighbour are to each other, from 0 to 1, by both ranks."""
        shared_H = self._store.shared(words, self.bags)
        back = self._ranks_back(shared_H / self._spread).tolist()
        ranks = self._ranks(shared_H / self._spread_H).tolist()
        return [(rank * their_rank) ** -0.5 for rank, their_rank in zip(ranks, back, strict=True)]

    def _ranks(self, close_H: np.ndarray) -> np.ndarray:
        """The rank of each neighbour among its publisher's, the closest first, of two alike the one named first."""
        closer_HH = self._same_HH & (close_H > close_H[:, None])
        closer_HH |= self._earlier_HH & (close_H == close_H[:, None])
        return 1 + closer_HH.sum(axis=1)

    def _ranks_back(self, close_H: np.ndarray) -> np.ndarray:
        """The rank that a sentence this close has among its publisher's in the eyes of each neighbour; _FAR where it is
        farther than all that a search from there finds."""
        closer_HN = self._close_HN > close_H[:, None]
        farther_H = closer_HN.sum(axis=1)
        last_H = (farther_H > 0) & (farther_H == self._there_H)
        rank_H = 1 + (closer_HN & self._counted_HN).sum(axis=1)
        return np.where((close_H == 0) | last_H, _FAR, rank_H)
