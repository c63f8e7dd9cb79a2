"""Evidence: sentences of other publishers, or of the same one elsewhere, that speak of the same thing as a claim."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from troth.curate.memory import remembered
from troth.curate.validate.claims import Claim
from troth.curate.validate.neighbours import Circle, KnownNeighbours, Place, find_neighbours
from troth.curate.validate.phrases import Spoken, key_of
from troth.curate.validate.store import Store, Stored
from troth.curate.validate.values import Value, comparable, find_values, same

_SUBJECT_STEMS = 3
_REACH, _BESIDE = 48, 4
_WORD = re.compile(r"\w+")
_KEPT = 1 << 13


class Witness(NamedTuple):
    """A sentence that states `value` where the claim has its own.

    All from 0 to 1: `likeness` is the cosine of the two sentences without the values; `mutual` is 1 where each is the
    other's nearest among its publisher's sentences; `subject` the share of the claim's three rarest stems that the
    witness has too; `alone` is lower the more values of the sentence might be meant; `agrees` is 1 where the two
    sentences have another value in common, `apart` 1 where they have none though both hold others. `phrase` is the
    share of pages that state this value between words that are right beside the claim's; `beside` are the few words
    before and after the claim's own.
    """

    sentence: Stored
    value: Value
    likeness: float
    mutual: float
    subject: float
    alone: float
    agrees: float
    apart: float
    phrase: float
    beside: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def around(self) -> float:
        """The share that the few words around the two values have in common."""
        text = self.sentence.text
        return _shared(sum(self.beside, ()), words_before(text, self.value.start) + words_after(text, self.value.end))


class Surroundings(NamedTuple):
    """A sentence with where it stands, the subject that binds it (`about`), its `values`, the sentences `near` it, for
    each value of each of these the numbers of those own values that say the same, and their `circle`."""

    text: str
    place: Place
    about: str
    values: list[Value]
    near: list[Stored]
    same: list[list[frozenset[int]]]
    circle: Circle


Hit = tuple[Stored, float, list[frozenset[int]], float, float]
"""A sentence that may be a witness, how near it and the claim's are to each other, for each of its values the numbers
of the claim's sentence's values that say the same, and summed rarity: of what both share, and of all that it has."""


@remembered(_KEPT)
def words_before(text: str, start: int) -> tuple[str, ...]:
    """The last few words before a place of a text."""
    return tuple(_WORD.findall(text[max(0, start - _REACH) : start].lower())[-_BESIDE:])


@remembered(_KEPT)
def words_after(text: str, end: int) -> tuple[str, ...]:
    """The first few words after a place of a text."""
    return tuple(_WORD.findall(text[end : end + _REACH].lower())[:_BESIDE])


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """The share of words that two lists have in common (Dice)."""
    return 2 * len(set(ours) & set(theirs)) / max(1, len(set(ours)) + len(set(theirs)))


class Evidence:
    """A store and the neighbours of its sentences, searched for what bears on a claim."""

    def __init__(self, store: Store, neighbours: Sequence[Path], limit: int):
        self.store = store
        self._known = KnownNeighbours(neighbours, limit)

    def around(self, text: str, place: Place, about: str) -> Surroundings:
        """What stands nearest to a sentence, which is `about` a subject as far as that is known."""
        store, known = self.store, self._known
        at = store.number_of(text, place.source, place.start)
        if at is None:
            others, own = find_neighbours(store, text, place, known.limit)
            near = others.at + own.at
        else:
            near = known.of(at)
        values = find_values(text)
        sentences = [store.get(number) for number in near]
        circle = Circle(store, known, near, place, store.weight(store.stem(text)))
        return Surroundings(text, place, about, values, sentences, _same(values, sentences), circle)

    def witnesses(self, around: Surroundings, value: Value) -> list[Witness]:
        """What the neighbours of a sentence, and those with the same words beside a value, state in its place: that
        value, or comparable ones that the sentence does not hold itself.

        What shares nothing but the value does not count. A sentence that agrees in two other values already tells the
        same fact; what other names it has contradict nothing.
        """
        store, text = self.store, around.text
        own = store.stem(value.text)
        context = store.stem(f"{text[: value.start]} {text[value.end :]}") - own
        words = frozenset(stem for stem in context if not stem & 1)
        # A value cut out of a word, such as the 5 of e5, leaves a stem that no sentence has.
        subject = frozenset(sorted(words, key=lambda stem: (-store.rarity(stem), stem))[:_SUBJECT_STEMS])
        others = frozenset(n for n, v in enumerate(around.values) if v.end <= value.start or v.start >= value.end)
        whole, rarest = store.weight(context), store.weight(subject)
        beside = words_before(text, value.start), words_after(text, value.end)
        spoken = self._spoken(around, value)
        found: list[Witness] = []
        for hit, mutual, equal, common, weight in self._hits(around, context, words, spoken.at):
            if around.about and hit.about and hit.about != around.about:
                continue
            stated, shared = _stated(hit, equal, value, others)
            for theirs in stated:
                # Sums of rarity are exact, so that what the value itself has can be taken from the whole.
                cut = hit.stems & store.stem(theirs.text)
                both = common - store.weight(cut & context)
                if not both:
                    continue
                found.append(
                    Witness(
                        hit,
                        theirs,
                        likeness=both / max(1e-9, whole * (weight - store.weight(cut))) ** 0.5,
                        mutual=mutual,
                        subject=store.weight(subject & hit.stems - cut) / max(1e-9, rarest),
                        alone=1 / len(stated),
                        agrees=float(shared > 0),
                        apart=float(not shared and bool(others) and _has_another(hit.values, theirs)),
                        phrase=spoken.share.get(key_of(theirs), 0.0),
                        beside=beside,
                    )
                )
        return found

    def _hits(
        self, around: Surroundings, context: frozenset[int], words: frozenset[int], at: list[int]
    ) -> Iterator[Hit]:
        """The neighbours of a sentence, then those of the sentences `at` that are none."""
        there = {hit.at for hit in around.near}
        more = [self.store.get(number) for number in at if number not in there]
        bags = self.store.bags(np.array([hit.at for hit in more], int))
        mutual = around.circle.mutual(words) if around.near else []
        for hits, mutual_H, same_H, bags_H in (
            (around.near, mutual, around.same, around.circle.bags),
            (more, [0.0] * len(more), _same(around.values, more), bags),
        ):
            shared_H = self.store.shared(context, bags_H).tolist()
            yield from zip(hits, mutual_H, same_H, shared_H, bags_H.whole.tolist(), strict=True)

    def _spoken(self, around: Surroundings, value: Value) -> Spoken:
        def heard(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            places = self.store.places(at)
            own, elsewhere = around.place.compared(places)
            return ~own | elsewhere, places[:, 1]

        return self.store.phrases.elsewhere(around.text, value, heard)

    def fits(self, claim: Claim, values: list[Value]) -> np.ndarray:
        """How well values fit between the words beside the claim's (see `Company.fits`) [values]; 0 for numbers."""
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


def _stated(
    hit: Stored, equal: list[frozenset[int]], value: Value, others: frozenset[int]
) -> tuple[list[Value], int]:
    """What a sentence states in the place of a value of another one, and how many of its values say the same as
    `others` of that one; `equal` are, for each of its values, the numbers of those that do."""
    stated = [
        theirs for theirs, mine in zip(hit.values, equal, strict=True)
        if theirs.kind == value.kind and mine.isdisjoint(others) and comparable(value, theirs)
    ]  # fmt: skip
    shared = sum(not mine.isdisjoint(others) for mine in equal) if stated else 0
    if value.kind == "name" and shared > 1:
        stated = [theirs for theirs in stated if same(theirs, value)]
    return stated, shared


def _same(values: list[Value], sentences: list[Stored]) -> list[list[frozenset[int]]]:
    """For each value of each sentence, the numbers of those `values` that say the same."""
    known: dict[tuple[str, str, str], frozenset[int]] = {}

    def same_as(value: Value) -> frozenset[int]:
        form = value.kind, value.key, value.unit
        found = known.get(form)
        if found is None:
            found = known[form] = frozenset(n for n, mine in enumerate(values) if same(mine, value))
        return found

    return [[same_as(value) for value in sentence.values] for sentence in sentences]


def _has_another(values: Iterable[Value], value: Value) -> bool:
    """Whether one of a sentence's values stands apart from this one."""
    return any(one.end <= value.start or one.start >= value.end for one in values)
