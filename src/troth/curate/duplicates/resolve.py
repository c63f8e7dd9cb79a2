"""Which of several like documents stays, and what each of the others repeats: shared word 5-grams decide.

Two texts that write different figures in the same words are not duplicates but editions, of which one may be outdated
or wrong: both stay, for the verdicts to tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from troth.curate.duplicates.prints import shingles
from troth.curate.filter.words import Hashes, Words, among


@dataclass(frozen=True)
class Suspect:
    """A document that may repeat another one of its cluster."""

    cluster: int
    number: int
    source: str
    publisher: str
    published: str
    text: str


@dataclass(frozen=True)
class Repeat:
    """The document `number` repeats the document `of`, by a share `score` of the smaller one's word 5-grams."""

    number: int
    of: int
    score: float


def resolve(cluster: Sequence[Suspect], partners: Mapping[int, Sequence[int]], near_duplicate: float) -> list[Repeat]:
    """What each document of a cluster repeats, if anything.

    Of several, the one published first stays (undated ones count as last); of the same date the longest; then the first
    by source. Each is compared with those of its `partners` that stay. The order given does not matter.
    """
    ranked = sorted(cluster, key=rank)
    place = {suspect.number: at for at, suspect in enumerate(ranked)}
    known: dict[int, _Known] = {}
    repeats: list[Repeat] = []
    for at, suspect in enumerate(ranked):
        words = Words(suspect.text)
        mine = _Known(shingles(words), words)
        best, score = None, 0.0
        for other in sorted(place[number] for number in partners.get(suspect.number, ()) if number in place):
            theirs = known.get(other)
            if other >= at or theirs is None:
                continue
            shared = containment(mine.shingles, theirs.shingles)
            if shared <= score or shared < near_duplicate:
                continue
            if not later_edition(suspect, ranked[other]) and not mine.is_edition_of(theirs):
                best, score = other, shared
        if best is None:
            known[at] = mine
        else:
            repeats.append(Repeat(suspect.number, ranked[best].number, score))
    return repeats


def later_edition(one: Suspect, other: Suspect) -> bool:
    """Whether a publisher says something again on another date: what it then still says, and what not, is evidence."""
    dated = one.published and other.published and one.published != other.published
    return bool(dated and one.publisher and one.publisher == other.publisher)


def rank(suspect: Suspect) -> tuple[bool, str, int, str, str]:
    """Sorts the document that is to stay before those that repeat it."""
    return not suspect.published, suspect.published, -len(suspect.text), suspect.source, suspect.text


def containment(a: Hashes, b: Hashes) -> float:
    """Share of the smaller set's members that both sets have; both are sorted and without repetition."""
    if len(a) > len(b):
        a, b = b, a
    return float(among(a, b).mean()) if len(a) else 0.0


class _Known:
    def __init__(self, own: Hashes, words: Words):
        self.shingles = own
        self._words = words
        self._figures: tuple[Hashes, Hashes] | None = None

    def is_edition_of(self, other: "_Known") -> bool:
        """Whether somewhere the two words before and after a figure are the same, and the figure is not."""
        (places, figures), (their_places, their_figures) = self.figures(), other.figures()
        both = np.intersect1d(places, their_places)
        if not len(both):
            return False
        mine, theirs = np.isin(places, both), np.isin(their_places, both)
        same = np.isin(_paired(places[mine], figures[mine]), _paired(their_places[theirs], their_figures[theirs]))
        return len(np.unique(places[mine][same])) < len(both)

    def figures(self) -> tuple[Hashes, Hashes]:
        """Hash of the two words before and after each figure, and of the figure."""
        if self._figures is None:
            plain = np.flatnonzero(self._words.is_word)
            lower, digit = self._words.lower[plain], self._words.starts_with_digit[plain]
            at = np.flatnonzero(digit[2:-2]) + 2
            around = np.zeros(len(at), np.uint64)
            for step in (-2, -1, 1, 2):
                around = around * np.uint64(0x9E3779B97F4A7C15) + lower[at + step]
            self._figures = around, lower[at]
        return self._figures


def _paired(places: Hashes, figures: Hashes) -> Hashes:
    return (places ^ (figures >> np.uint64(1))) * np.uint64(0xD6E8FEB86659FD93) + figures
