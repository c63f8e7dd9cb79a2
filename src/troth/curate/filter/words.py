"""A text measured once: where its words and lines lie and a 64-bit hash of each, as arrays that every rule reads.

Hashes are polynomials over the characters, from running sums (Karp and Rabin 1987), so no word becomes a Python string.
Words are split much as spaCy's English rules do it, whose words the published limits are measured on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from troth.curate.filter.characters import DIGIT, LETTER, LOWER, PUNCTUATION, SPACE, SYMBOL, UPPER, WORD, characters

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

_BASE = 0x9E3779B97F4A7C15
_MIX = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class Spans:
    """Pieces of a text: character `starts` and `ends`, and a hash of what stands between (all shape [n])."""

    starts: Places
    ends: Places
    hashes: Hashes

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> Places:
        """Characters of each."""
        return self.ends - self.starts


class Words:
    """Words and lines of one text."""

    def __init__(self, text: str):
        self.text = text
        self.points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def starts(self) -> Places:
        """First character of each word, shape [words]."""
        return self._split[0]

    @cached_property
    def ends(self) -> Places:
        """Character after each word, shape [words]."""
        return self._split[1]

    @cached_property
    def lengths(self) -> Places:
        """Characters of each word, shape [words]."""
        return self.ends - self.starts

    @cached_property
    def exact(self) -> Hashes:
        """Hash of each word as it is written, shape [words]."""
        return self._hash(self._exact_sums, self.starts, self.ends)

    @cached_property
    def lower(self) -> Hashes:
        """Hash of each word in lower case, shape [words]."""
        return self._hash(self._sums(characters().lower.take(self.points, mode="clip")), self.starts, self.ends)

    @cached_property
    def is_word(self) -> npt.NDArray[np.bool_]:
        """Whether a word has more to it than punctuation, shape [words]."""
        return self._has((self._classes == WORD) | (self._classes == SYMBOL))

    @cached_property
    def has_letter(self) -> npt.NDArray[np.bool_]:
        """Whether a word has a letter, shape [words]."""
        return self._has(self.kinds & LETTER != 0)

    @cached_property
    def starts_with_digit(self) -> npt.NDArray[np.bool_]:
        """Whether a word begins with a digit, shape [words]."""
        return self.kinds[self.starts] & DIGIT != 0

    @cached_property
    def lines(self) -> Spans:
        """Pieces between line feeds, empty ones too."""
        feeds = np.flatnonzero(self.points == 10)
        return self.spans(np.concatenate(([0], feeds + 1)), np.append(feeds, len(self.points)))

    def filled(self, lines: Spans) -> npt.NDArray[np.bool_]:
        """Which of the lines hold more than blanks."""
        seen = np.concatenate(([0], np.cumsum(self._classes != SPACE)))
        return seen[lines.ends] > seen[lines.starts]

    def spans(self, starts: Places, ends: Places) -> Spans:
        """The pieces of the text at the places given, hashed as written."""
        return Spans(starts, ends, self._hash(self._exact_sums, starts, ends))

    @cached_property
    def _classes(self) -> npt.NDArray[np.uint8]:
        return characters().classes.take(self.points, mode="clip")

    @cached_property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """What each character is, as bits, shape [characters]."""
        return characters().kinds.take(self.points, mode="clip")

    def _has(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        seen = np.concatenate(([0], np.cumsum(flags, dtype=np.int64)))
        return seen[self.ends] > seen[self.starts]

    @cached_property
    def _split(self) -> tuple[Places, Places]:
        if not len(self.points):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        classes = self._classes
        before = np.concatenate(([SPACE], classes[:-1]))
        begins = (classes != before) | (classes == PUNCTUATION) | (classes == SYMBOL)
        marks = np.flatnonzero(classes == PUNCTUATION)
        if len(marks):
            self._join(begins, marks)
            self._part(begins, marks)
        begins &= classes != SPACE
        ends = (classes != SPACE) & np.append(begins[1:] | (classes[1:] == SPACE), True)
        return np.flatnonzero(begins), np.flatnonzero(ends) + 1

    def _join(self, begins: npt.NDArray[np.bool_], marks: Places) -> None:
        """Take back the breaks at marks that belong to a word (3.5, e.g., 20-year, name="a) or repeat (..., --)."""
        points, classes = self.points, self._classes
        last = len(points) - 1
        # Runs of marks: those before a word, behind one, and within one, of which all belong to it.
        first = np.flatnonzero(np.diff(marks, prepend=-2) != 1)
        final = np.append(first[1:], len(marks)) - 1
        sizes = final - first + 1
        opens = (marks[first] == 0) | (classes[np.maximum(marks[first] - 1, 0)] == SPACE)
        closes = (marks[final] == last) | (classes[np.minimum(marks[final] + 1, last)] == SPACE)
        mark = points[marks]
        holds = characters().holds.take(mark, mode="clip")
        seen = np.cumsum(holds)
        before: Places = np.repeat(seen[first] - holds[first], sizes)
        inside = np.repeat(~opens & ~closes, sizes)
        # Before a word, what follows the first mark that words keep at their ends; that mark begins the word.
        leading = np.repeat(opens, sizes)
        rest = leading & (seen > before)
        stay = leading & holds & (seen == before + 1)
        # Behind a word, what comes before the last such mark, which ends the word.
        trailing = np.repeat(closes & ~opens, sizes)
        upto = trailing & (np.repeat(seen[final], sizes) - seen + holds > 0)
        end = trailing & holds & (np.repeat(seen[final], sizes) == seen)
        begins[marks[(inside | rest | upto) & ~stay]] = False
        after = marks[(inside | rest | (upto & ~end))] + 1
        begins[after[after <= last]] = False
        twice = (mark == ord(".")) & (points[np.maximum(marks - 1, 0)] == ord(".")) & (marks > 0)
        begins[marks[twice]] = False

    def _part(self, begins: npt.NDArray[np.bool_], marks: Places) -> None:
        """Put breaks at marks between two characters that are words of their own: it's, well-known, a=b, end.Next,
        3-4."""
        marks = marks[(marks > 0) & (marks < len(self.points) - 1)]
        mark, left, right = self.points[marks], self.kinds[marks - 1], self.kinds[marks + 1]
        letters = (left & LETTER != 0) & (right & LETTER != 0)
        apostrophe = ((mark == ord("'")) | (mark == ord("’"))) & letters
        begins[marks[apostrophe]] = True
        apart = letters & characters().dashes.take(mark, mode="clip")
        joint = characters().joints.take(mark, mode="clip")
        apart |= joint & (left & (LETTER | DIGIT) != 0) & (right & LETTER != 0)
        apart |= (mark == ord(".")) & (left & LOWER != 0) & (right & UPPER != 0)
        sign = (mark == ord("-")) | (mark == ord("+")) | (mark == ord("*")) | (mark == ord("^"))
        apart |= sign & (left & DIGIT != 0) & (right & DIGIT != 0)
        begins[marks[apart]] = begins[marks[apart] + 1] = True

    @cached_property
    def _exact_sums(self) -> Hashes:
        return self._sums(self.points)

    def _sums(self, points: npt.NDArray[np.uint32]) -> Hashes:
        powers, _ = _powers(len(points))
        sums = np.empty(len(points) + 1, np.uint64)
        sums[0] = 0
        np.cumsum((points + np.uint64(1)) * powers[: len(points)], out=sums[1:])
        return sums

    def _hash(self, sums: Hashes, starts: Places, ends: Places) -> Hashes:
        _, inverses = _powers(len(self.points))
        hashes = (sums[ends] - sums[starts]) * inverses[starts]
        hashes ^= hashes >> np.uint64(32)
        hashes *= _MIX
        hashes ^= hashes >> np.uint64(29)
        return hashes


def hash_words(words: Iterable[str]) -> Hashes:
    """The hashes that `Words.lower` gives these words, sorted, each once. Raises ValueError where one is not a word."""
    return distinct(_alone(words).lower)


def hash_exact(words: Iterable[str]) -> Hashes:
    """The hashes that `Words.exact` gives these words, sorted, each once. Raises ValueError where one is not a word."""
    return distinct(_alone(words).exact)


def _alone(words: Iterable[str]) -> Words:
    listed = list(words)
    found = Words(" ".join(listed))
    if len(found) != len(listed):
        raise ValueError(f"{next(word for word in listed if len(Words(word)) != 1)!r}: a lexicon holds single words")
    return found


def distinct(hashes: Hashes) -> Hashes:
    """Each once, sorted (by sorting, which NumPy does faster than hashing)."""
    ranked = np.sort(hashes)
    return ranked[np.concatenate(([True], ranked[1:] != ranked[:-1]))] if len(ranked) else ranked


def among(numbers: npt.NDArray[Any], known: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which numbers, such as hashes, stand in `known`, which is sorted; shape of `numbers`."""
    if not len(known):
        return np.zeros(len(numbers), bool)
    return known.take(np.searchsorted(known, numbers), mode="clip") == numbers


def runs_of_equals(ranked: npt.NDArray[Any]) -> tuple[Places, Places]:
    """Where each run of equal numbers begins in a sorted array, and how long it is, shape [different numbers]."""
    if not len(ranked):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    edges = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1], [True])))
    return edges[:-1], np.diff(edges)


def runs_of(flags: npt.NDArray[np.bool_]) -> tuple[Places, Places]:
    """First and last place (excluded) of each run of set flags, shape [runs]."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).view(np.int8)))
    return edges[::2], edges[1::2]


def hash_runs(hashes: Hashes, starts: Places, ends: Places) -> Hashes:
    """One hash for each run of hashes from a start to an end, shape of `starts`."""
    powers, inverses = _powers(len(hashes))
    sums = np.zeros(len(hashes) + 1, np.uint64)
    np.cumsum(hashes * powers[: len(hashes)], out=sums[1:])
    found = (sums[ends] - sums[starts]) * inverses[starts]
    found ^= found >> np.uint64(31)
    found *= _MIX
    return found


def grams(hashes: Hashes, n: int) -> Hashes:
    """Hash of each n words in a row, shape [words - n + 1] (none where the text is shorter)."""
    if len(hashes) < n:
        return np.zeros(0, np.uint64)
    found = hashes[: len(hashes) - n + 1].copy()
    for step in range(1, n):
        found *= _MIX
        found += hashes[step : len(hashes) - n + 1 + step]
    found ^= found >> np.uint64(31)
    found *= np.uint64(_BASE)
    return found


_TABLES: list[tuple[Hashes, Hashes]] = []


def _powers(length: int) -> tuple[Hashes, Hashes]:
    """Powers of the base and of its inverse modulo 2^64, at least `length` + 1 of each."""
    if not _TABLES or len(_TABLES[0][0]) <= length:
        size = 1 << max(16, (length + 1).bit_length())
        inverse = pow(_BASE, -1, 1 << 64)
        both = (np.full(size, base, np.uint64) for base in (_BASE, inverse))
        tables = tuple(np.multiply.accumulate(np.concatenate(([np.uint64(1)], row[1:]))) for row in both)
        _TABLES[:] = [(tables[0], tables[1])]
    return _TABLES[0]
