"""Evidence: sentences of other publishers, or of the same one elsewhere, that speak of the same thing as a claim.

How much two sentences have in common is the summed rarity of the stems they share. Each sentence of the store has its
nearest ones found once, so that whether two are each other's nearest costs a look, not a search.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np

from troth.curate.validate.claims import Claim
from troth.curate.validate.phrases import Spoken, key_of
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
    witness has too; `alone` is lower the more values of the sentence might be meant; `agrees` is 1 where the two
    sentences have another value in common, `apart` 1 where they have none though both hold others. `beside` are the few
    words before and after the claim's own value, `phrase` the share of pages that state this value between such words.
    """

    sentence: Stored
    value: Value
    likeness: float
    mutual: float
    subject: float
    alone: float
    agrees: float
    apart: float
    beside: tuple[tuple[str, ...], tuple[str, ...]]
    phrase: float

    @property
    def around(self) -> float:
        """The share that the few words around the two values have in common."""
        text = self.sentence.text
        return _shared(sum(self.beside, ()), words_before(text, self.value.start) + words_after(text, self.value.end))


@dataclass(frozen=True)
class Neighbours:
    """The sentences nearest to one, nearest first, with how close they are."""

    at: list[int]
    closeness: list[float]


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
    """A sentence with where it stands, the subject that binds it (`about`), its `values`, the numbers of the sentences
    `near` it, and for each value of each of these the numbers of those own values that say the same."""

    text: str
    place: Place
    about: str
    values: list[Value]
    near: list[int]
    same: list[list[frozenset[int]]]


def find_neighbours(store: Store, text: str, place: Place, limit: int) -> tuple[Neighbours, Neighbours]:
    """Search for a sentence that need not be in the store: those of other publishers, at most so many, and those that
    its own says elsewhere at the same time, at most half as many."""
    words = frozenset(stem for stem in store.stem(text) if not stem & 1)
    at = np.array(store.search(text, 3 * limit), np.int64)
    own, elsewhere = place.compared(store.places(at))
    return _ordered(store, words, at[~own][:limit]), _ordered(store, words, at[elsewhere][: limit // 2])


def _ordered(store: Store, words: frozenset[int], at: np.ndarray) -> Neighbours:
    close = closeness(*store.shared(words, at))
    order = sorted(range(len(close)), key=lambda number: -close[number])
    return Neighbours(at[order].tolist(), [close[number] for number in order])


def closeness(shared: np.ndarray, whole: np.ndarray) -> list[float]:
    """How much of some sentences a sentence covers, as seen from this one; see `Store.shared`."""
    return [one / max(1e-9, weight) ** 0.5 for one, weight in zip(shared.tolist(), whole.tolist(), strict=True)]


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
        if at is None:
            others, own = find_neighbours(self.store, text, place, self._limit)
            near = others.at + own.at
        else:
            row = self._rows(np.array([at]))[0]["at"]
            near = row[row != _NOBODY].tolist()
        values = find_values(text)
        known: dict[tuple[str, str, str], frozenset[int]] = {}

        def same_as(value: Value) -> frozenset[int]:
            form = value.kind, value.key, value.unit
            if form not in known:
                known[form] = frozenset(n for n, mine in enumerate(values) if same(mine, value))
            return known[form]

        equal = [[same_as(value) for value in self.store.get(number).values] for number in near]
        return Surroundings(text, place, about, values, near, equal)

    def witnesses(self, around: Surroundings, value: Value) -> list[Witness]:
        """What the neighbours of a sentence state in the place of a value in it: that value, or comparable ones that
        the sentence does not hold itself.

        What shares nothing but the value does not count. A sentence that agrees in two other values already tells the
        same fact; what other names it has contradict nothing.
        """
        store, text = self.store, around.text
        own = store.stem(value.text)
        context = store.stem(f"{text[: value.start]} {text[value.end :]}") - own
        words = frozenset(stem for stem in context if not stem & 1)
        # A value cut out of a word, such as the 5 of e5, leaves a stem that no sentence has.
        subject = sorted(words, key=lambda stem: (-store.rarity(stem), stem))[:_SUBJECT_STEMS]
        others = {n for n, v in enumerate(around.values) if v.end <= value.start or v.start >= value.end}
        whole, rarest = store.weight(context), store.weight(subject)
        beside = words_before(text, value.start), words_after(text, value.end)
        found: list[Witness] = []
        spoken = self._spoken(value, around)
        near = set(around.near)
        more = [at for at in spoken.at if at not in near]
        same_ = [[frozenset(n for n, m in enumerate(around.values) if same(m, v)) for v in store.get(at).values] for at in more]
        for at, mutual, equal in zip([*around.near,*more], [*self._mutual(words, around),*[0.0]*len(more)], [*around.same,*same_], strict=True):
            hit = store.get(at)
            if around.about and hit.about and hit.about != around.about:
                continue
            stated = [
                theirs for theirs, mine in zip(hit.values, equal, strict=True)
                if mine.isdisjoint(others) and comparable(value, theirs)
            ]  # fmt: skip
            if not stated:
                continue
            shared = sum(not mine.isdisjoint(others) for mine in equal)
            if value.kind == "name" and shared > 1:
                stated = [theirs for theirs in stated if same(theirs, value)]
            for theirs in stated:
                rest = hit.stems - store.stem(theirs.text)
                common = store.weight(context & rest)
                if not common:
                    continue
                more_ = any(v.end <= theirs.start or v.start >= theirs.end for v in hit.values)
                found.append(
                    Witness(
                        hit,
                        theirs,
                        likeness=common / max(1e-9, whole * store.weight(rest)) ** 0.5,
                        mutual=mutual,
                        subject=store.weight(stem for stem in subject if stem in rest) / max(1e-9, rarest),
                        alone=1 / len(stated),
                        agrees=float(shared > 0),
                        apart=float(not shared and bool(others) and more_),
                        beside=beside,
                        phrase=spoken.share.get(key_of(theirs), 0.0),
                    )
                )
        return found

    def _spoken(self, value: Value, around: Surroundings) -> Spoken:
        place = around.place

        def heard(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            places = self.store.places(at)
            own, elsewhere = place.compared(places)
            return ~own | elsewhere, places[:, 1]

        return self.store.phrases.elsewhere(around.text, value, heard)

    def fits(self, claim: Claim, values: list[Value]) -> np.ndarray:
        """How well each of some values fits between the words beside the claim's (see `Company.fits`); 0 for numbers."""
        if claim.value.kind != "name":
            return np.zeros(len(values))
        sentence = claim.sentence
        own = self.store.standing(sentence.document.source, sentence.start, claim.value.start)
        return self.store.company.fits(sentence.text, claim.value, values, own)

    def commonness(self, value: Value) -> float:
        """How usual a name is: 0 for the rarest, towards 2 for one that every other sentence has; 0 for numbers."""
        if value.kind != "name":
            return 0.0
        rarity = [self.store.rarity(stem) for stem in self.store.stem(value.text)]
        return max((2 - r**0.5 / 5 for r in rarity if r > 0), default=0.0) if rarity else 0.0

    def _rows(self, at: np.ndarray) -> np.ndarray:
        """What `write_neighbours` wrote of sentences of the store."""
        part_H = np.searchsorted(self._starts, at, side="right") - 1
        rows = np.empty((len(at), self._limit + self._limit // 2), self._near[0].dtype)
        for part in set(part_H.tolist()):
            rows[part_H == part] = self._near[part][at[part_H == part] - self._starts[part]]
        return rows

    def _mutual(self, words: frozenset[int], around: Surroundings) -> list[float]:
        """How near these words of a sentence and its neighbours are to each other, by both ranks."""
        if not around.near:
            return []
        at_H = np.array(around.near)
        shared_H, whole_H = self.store.shared(words, at_H)
        spread = max(1e-9, self.store.weight(self.store.stem(around.text))) ** 0.5
        ranks = self._ranks(at_H, closeness(shared_H, whole_H))
        back = self._ranks_back(at_H, around.place, shared_H / spread)
        return [(rank * their_rank) ** -0.5 for rank, their_rank in zip(ranks, back, strict=True)]

    def _ranks(self, at_H: np.ndarray, close: list[float]) -> list[int]:
        """The rank of each sentence among its publisher's, the closest first."""
        publishers = self.store.places(at_H)[:, 2].tolist()
        seen: Counter[int] = Counter()
        ranks = [0] * len(close)
        for number in sorted(range(len(close)), key=lambda number: -close[number]):
            seen[publishers[number]] += 1
            ranks[number] = seen[publishers[number]]
        return ranks

    def _ranks_back(self, hits_H: np.ndarray, place: Place, close_H: np.ndarray) -> list[int]:
        """The rank that a sentence this close has among its publisher's in the eyes of each hit; _FAR where it is
        farther than all that a search from there finds."""
        rows_HN = self._rows(hits_H)
        publisher = mark(place.publisher)
        there_HN = rows_HN["at"] != _NOBODY
        own_H = self.store.places(hits_H)[:, 2] == publisher
        there_HN[own_H, : self._limit] = there_HN[~own_H, self._limit :] = False
        closer_HN = there_HN & (rows_HN["closeness"] > close_H[:, None])
        start, source, who, _ = self.store.places(rows_HN["at"][closer_HN]).T
        counted = (who == publisher) & ((source != mark(place.source)) | (start != place.start))
        rank_H = 1 + np.bincount(np.nonzero(closer_HN)[0][counted], minlength=len(hits_H))
        last_H = closer_HN.any(axis=1) & (closer_HN == there_HN).all(axis=1)
        ranks: list[int] = np.where((close_H == 0) | last_H, _FAR, rank_H).tolist()
        return ranks
