"""Topics of a corpus: clusters of hashed tf-idf vectors (Weinberger et al. 2009), named by the words that mark them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from troth.curate.balance.clusters import Rows, k_means, unit
from troth.curate.balance.sample import HEAD
from troth.curate.filter.measures import FUNCTION_WORDS
from troth.curate.filter.words import Words, among

BITS = 12
"""2^12 places for words."""
MOST = 16
"""Topics at most."""
_NAME_WORDS = 4
_TOGETHER = 256


@dataclass(frozen=True)
class Topics:
    """`centres` of shape [topics, 4096] with their `names`, and the `rarity` (idf) of each place."""

    centres: Rows
    names: tuple[str, ...]
    rarity: Rows

    def of(self, words: Words) -> int:
        """The topic of a text, by its head; -1 where it has no words that tell."""
        if not len(self.centres):
            return -1
        row = _counts(words) * self.rarity
        return int(np.argmax(self.centres @ row)) if row.any() else -1


def fit_topics(heads: Sequence[str], seed: int) -> Topics:
    """Topics of a sample of texts: one for each forty texts, at most sixteen."""
    rarity = np.zeros(1 << BITS, np.float32)
    if not heads:
        return Topics(np.zeros((0, 1 << BITS), np.float32), (), rarity)
    rows = np.empty((len(heads), 1 << BITS), np.float32)
    for row, head in zip(rows, heads, strict=True):
        row[:] = _counts(Words(head))
    rarity = np.log(len(heads) / np.maximum(1, np.count_nonzero(rows, axis=0))).astype(np.float32)
    for first in range(0, len(rows), _TOGETHER):  # for 4,000 texts rows are 64 MB, of which there is no copy
        rows[first : first + _TOGETHER] = unit(rows[first : first + _TOGETHER] * rarity)
    centres = k_means(rows, max(1, min(MOST, len(heads) // 40)), seed)
    nearest = np.argmax(rows @ centres.T, axis=1)
    names = tuple(
        _name([head for head, topic in zip(heads, nearest, strict=True) if topic == at], centres[at])
        for at in range(len(centres))
    )
    return Topics(centres, names, rarity)


def _counts(words: Words) -> Rows:
    """Logarithmic counts of the words that carry meaning, shape [4096]."""
    meant = words.has_letter & (words.lengths > 2) & (words.starts < HEAD)
    hashes = words.lower[meant]
    places = (hashes[~among(hashes, FUNCTION_WORDS)] >> np.uint64(64 - BITS)).astype(np.int64)
    return np.log1p(np.bincount(places, minlength=1 << BITS)).astype(np.float32)


def _name(heads: Sequence[str], centre: Rows) -> str:
    """The words with the greatest weight, each the most frequent of its place."""
    spelled: dict[int, Counter[str]] = {}
    for head in heads[:200]:
        words = Words(head)
        meant = np.flatnonzero(words.has_letter & (words.lengths > 2) & ~among(words.lower, FUNCTION_WORDS))
        places = (words.lower[meant] >> np.uint64(64 - BITS)).astype(np.int64)
        for place, start, end in zip(
            places.tolist(), words.starts[meant].tolist(), words.ends[meant].tolist(), strict=True
        ):
            spelled.setdefault(place, Counter())[head[start:end].lower()] += 1
    tops = [place for place in np.argsort(-centre, kind="stable").tolist() if place in spelled][:_NAME_WORDS]
    return ", ".join(min(spelled[place].items(), key=lambda one: (-one[1], one[0]))[0] for place in tops)
