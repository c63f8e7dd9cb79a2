"""Evidence: sentences of other publishers, or of the same one elsewhere, that speak of the same thing as a claim.

How much two sentences have in common is the summed rarity of the stems they share. Each sentence of the store has its
nearest ones found once, so that whether two are each other's nearest costs a look, not a search.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np

from troth.curate.validate.store import Store, Stored, mark
from troth.curate.validate.values import Value, comparable, find_values, same

_SUBJECT_STEMS = 3
_REACH, _BESIDE = 48, 4
_WORD = re.compile(r"\w+")
_FAR = 16
_NOBODY = -1
_KEPT = 1 << 13


@dataclass(frozen=True)
class Witness:
    """A sentence that states `value` where the claim has its own.

    All from 0 to 1: `likeness` is the cosine of the two sentences without the values; `mutual` is 1 where each is the
    other's nearest among its publisher's sentences; `subject` the share of the claim's three rarest stems that the
    witness has too; `alone` is lower the more values of the sentence might be meant; `before` is 1 where the same word
    comes before the two values, and `around` the share that the few words around them have in common.
    """

    sentence: Stored
    value: Value
    likeness: float
    mutual: float
    subject: float
    alone: float
    before: float
    around: float


@dataclass(frozen=True)
class Neighbours:
    """The sentences nearest to one, nearest first, with how close they are, and each one's rank among its
    publisher's."""

    at: list[int]
    closeness: list[float]
    ranks: list[int]


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
class Surroundings:
    """A sentence with where it stands, the subject that binds it (`about`), its `values`, its neighbours, and for each
    value of each of these the numbers of those own values that say the same."""

    text: str
    place: Place
    about: str
    values: list[Value]
    near: Neighbours
    same: list[list[frozenset[int]]]


def find_neighbours(store: Store, text: str, place: Place, limit: int) -> tuple[Neighbours, Neighbours]:
    """Search for a sentence that need not be in the store: those of other publishers, at most so many, and those that
    its own says elsewhere at the same time, at most half as many."""
    words = frozenset(stem for stem in store.stem(text) if not stem & 1)
    at = np.array(store.search(text, 3 * limit), np.int64)
    own, elsewhere = place.compared(store.places(at))
    others, same_publisher = at[~own][:limit], at[elsewhere][: limit // 2]
    close = store.closeness(words, np.concatenate([others, same_publisher]))
    return _ranked(store, others, close[: len(others)]), _ranked(store, same_publisher, close[len(others) :])


def _ranked(store: Store, at: np.ndarray, close: list[float]) -> Neighbours:
    order = sorted(range(len(close)), key=lambda number: -close[number])
    return _neighbours(store, at[order], [close[number] for number in order])


def _neighbours(store: Store, at: np.ndarray, closeness: list[float]) -> Neighbours:
    seen: Counter[int] = Counter()
    ranks = []
    for publisher in store.places(at)[:, 2].tolist():
        seen[publisher] += 1
        ranks.append(seen[publisher])
    return Neighbours(at.tolist(), closeness, ranks)


def write_neighbours(store: Store, first: int, last: int, limit: int, path: Path) -> None:
    """The neighbours of the store's sentences `first` to `last`, as an array [sentences, limit + limit // 2] of (at,
    closeness): those of other publishers and then its own publisher's, nearest first, each filled up with `_NOBODY`."""
    rows = np.full((last - first, limit + limit // 2), _NOBODY, [("at", "<i8"), ("closeness", "<f8")])
    for row, at in zip(rows, range(first, last), strict=True):
        said = store.get(at)
        place = Place(said.speaker.source, said.start, said.speaker.publisher, said.speaker.published)
        for start, near in zip((0, limit), find_neighbours(store, said.text, place, limit), strict=True):
            row["at"][start : start + len(near.at)] = near.at
            row["closeness"][start : start + len(near.at)] = near.closeness
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, rows)
    partial.rename(path)


@lru_cache(_KEPT)
def words_before(text: str, start: int) -> tuple[str, ...]:
    """The last few words before a place of a text."""
    return tuple(_WORD.findall(text[max(0, start - _REACH) : start].lower())[-_BESIDE:])


@lru_cache(_KEPT)
def words_after(text: str, end: int) -> tuple[str, ...]:
    """The first few words after a place of a text."""
    return tuple(_WORD.findall(text[end : end + _REACH].lower())[:_BESIDE])


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """The share of words that two lists have in common (Dice)."""
    return 2 * len(set(ours) & set(theirs)) / max(1, len(set(ours)) + len(set(theirs)))


class Evidence:
    """A store and the neighbours of its sentences, searched for what bears on a claim."""

    def __init__(self, store: Store, neighbours: Iterable[Path], limit: int):
        self.store = store
        self._near = [np.load(path, mmap_mode="r").view(np.ndarray) for path in neighbours]
        self._starts = list(accumulate((len(rows) for rows in self._near), initial=0))
        self._limit = limit

    def around(self, text: str, place: Place, about: str) -> Surroundings:
        """What stands nearest to a sentence, which is `about` a subject as far as that is known."""
        at = self.store.number_of(text, place.source, place.start)
        others, own = find_neighbours(self.store, text, place, self._limit) if at is None else self._nearest(at)
        near = Neighbours(others.at + own.at, others.closeness + own.closeness, others.ranks + own.ranks)
        values = find_values(text)
        known: dict[tuple[str, str, str], frozenset[int]] = {}

        def same_as(value: Value) -> frozenset[int]:
            form = value.kind, value.key, value.unit
            if form not in known:
                known[form] = frozenset(n for n, mine in enumerate(values) if same(mine, value))
            return known[form]

        equal = [[same_as(value) for value in self.store.get(number).values] for number in near.at]
        return Surroundings(text, place, about, values, near, equal)

    def witnesses(self, around: Surroundings, value: Value) -> list[Witness]:
        """What the neighbours of a sentence state in the place of a value in it: that value, or comparable ones that
        the sentence does not hold itself.

        A sentence that agrees in two other values already tells the same fact; what else it mentions contradicts
        nothing.
        """
        store, text = self.store, around.text
        own = store.stem(value.text)
        context = store.stem(f"{text[: value.start]} {text[value.end :]}") - own
        # A value cut out of a word, such as the 5 of e5, leaves a stem that no sentence has.
        subject = sorted((stem for stem in context if not stem & 1), key=lambda stem: (-store.rarity(stem), stem))
        subject = subject[:_SUBJECT_STEMS]
        others = {n for n, v in enumerate(around.values) if v.end <= value.start or v.start >= value.end}
        whole, rarest = store.weight(context), store.weight(subject)
        stems = store.stem(text)
        spread = max(1e-9, store.weight(stems)) ** 0.5
        left, right = words_before(text, value.start), words_after(text, value.end)
        found: list[Witness] = []
        near = around.near
        for at, rank, equal in zip(near.at, near.ranks, around.same, strict=True):
            hit = store.get(at)
            if around.about and hit.about and hit.about != around.about:
                continue
            stated = [
                theirs for theirs, mine in zip(hit.values, equal, strict=True)
                if mine.isdisjoint(others) and comparable(value, theirs)
            ]  # fmt: skip
            if stated and len(others & frozenset().union(*equal)) > 1:
                stated = [theirs for theirs in stated if same(theirs, value)]
            if not stated:
                continue
            close = store.weight(hit.words & stems) / spread
            mutual = (rank * self._rank_back(hit, around.place, close)) ** -0.5
            for theirs in stated:
                rest = hit.stems - store.stem(theirs.text)
                found.append(
                    Witness(
                        hit,
                        theirs,
                        likeness=store.weight(context & rest) / max(1e-9, whole * store.weight(rest)) ** 0.5,
                        mutual=mutual,
                        subject=store.weight(stem for stem in subject if stem in rest) / max(1e-9, rarest),
                        alone=1 / len(stated),
                        before=float(left[-1:] == (theirs_left := words_before(hit.text, theirs.start))[-1:]),
                        around=_shared(left + right, theirs_left + words_after(hit.text, theirs.end)),
                    )
                )
        return found

    def commonness(self, value: Value) -> float:
        """How usual a name is: 0 for the rarest, towards 2 for one that every other sentence has; 0 for numbers."""
        if value.kind != "name":
            return 0.0
        rarity = [self.store.rarity(stem) for stem in self.store.stem(value.text)]
        return max((2 - r**0.5 / 5 for r in rarity if r > 0), default=0.0) if rarity else 0.0

    def _row(self, at: int) -> np.ndarray:
        """What `write_neighbours` wrote of a sentence of the store."""
        part = bisect_right(self._starts, at) - 1
        row: np.ndarray = self._near[part][at - self._starts[part]]
        return row

    def _nearest(self, at: int) -> tuple[Neighbours, Neighbours]:
        """The nearest of a sentence of the store, as `find_neighbours` found them."""
        row = self._row(at)
        others, own = (half[half["at"] != _NOBODY] for half in (row[: self._limit], row[self._limit :]))
        return (
            _neighbours(self.store, others["at"], others["closeness"].tolist()),
            _neighbours(self.store, own["at"], own["closeness"].tolist()),
        )

    def _rank_back(self, hit: Stored, place: Place, close: float) -> int:
        """The rank that a sentence this close has among its publisher's in the eyes of `hit`; _FAR where it is farther
        than all that a search from there finds."""
        row = self._row(hit.at)
        near = row[self._limit :] if hit.speaker.publisher == place.publisher else row[: self._limit]
        at = near["at"]
        closer = int((near["closeness"] > close).sum())
        if close == 0 or (closer and (closer == len(at) or at[closer] == _NOBODY)):
            return _FAR
        if not closer:
            return 1
        start, source, publisher, _ = self.store.places(at[:closer]).T
        elsewhere = (source != mark(place.source)) | (start != place.start)
        return 1 + int(((publisher == mark(place.publisher)) & elsewhere).sum())
