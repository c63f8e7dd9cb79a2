"""Which sentences of the store stand nearest to one, and whether it is nearest to them too.

How much two sentences have in common is the summed rarity of the stems they share. Each sentence of the store has its
nearest ones found once, so that whether two are each other's nearest costs a look, not a search.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from troth.curate.validate.store import Bags, Store, mark

_FAR = 16
_NOBODY = -1


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
    """The neighbours of the store's sentences `first` to `last`, as an array [sentences, limit + limit // 2] of (at,
    closeness): those of other publishers and then its own publisher's, nearest first, each filled up with nobody."""
    rows = np.full((last - first, limit + limit // 2), _NOBODY, [("at", "<i8"), ("closeness", "<f8")])
    at_rows, close_rows = rows["at"], rows["closeness"]
    for row, at in enumerate(range(first, last)):
        said = store.get(at)
        place = Place(said.speaker.source, said.start, said.speaker.publisher, said.speaker.published)
        for start, near in zip((0, limit), find_neighbours(store, said.text, place, limit), strict=True):
            at_rows[row, start : start + len(near.at)] = near.at
            close_rows[row, start : start + len(near.at)] = near.closeness
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, rows)
    partial.rename(path)


class KnownNeighbours:
    """What `write_neighbours` wrote of all sentences of a store, mapped into memory."""

    def __init__(self, files: Iterable[Path], limit: int):
        self.limit = limit
        self._near = [np.load(path, mmap_mode="r").view(np.ndarray) for path in files]
        self._starts = list(accumulate((len(rows) for rows in self._near), initial=0))

    def of(self, at: int) -> list[int]:
        """The neighbours of one sentence."""
        row = self.rows(np.array([at]))[0]["at"]
        found: list[int] = row[row != _NOBODY].tolist()
        return found

    def rows(self, at: np.ndarray) -> np.ndarray:
        """The rows of some sentences [N, limit + limit // 2]."""
        part_N = np.searchsorted(self._starts, at, side="right") - 1
        rows = np.empty((len(at), self.limit + self.limit // 2), self._near[0].dtype)
        for part in set(part_N.tolist()):
            of_part = part_N == part
            rows[of_part] = self._near[part][at[of_part] - self._starts[part]]
        return rows


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
        rows_HN = known.rows(at_H)
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
