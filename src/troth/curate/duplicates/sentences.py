"""Sentences of a text as spans of characters with a hash of their words, for finding those that documents share."""

from typing import Any

import numpy as np
import numpy.typing as npt

from troth.curate.filter.characters import CLOSES, ENDS
from troth.curate.filter.words import Hashes, Spans, Words, grams, hash_runs

SPAN = 3
"""Sentences in a row that count as one repetition, as in C4 (Raffel et al. 2020, section 2.2)."""
FEWEST_WORDS = 15
"""Of these together; shorter ones (Yes. No. Why?) say nothing of where they come from; ours."""


def sentences(words: Words) -> Spans:
    """Sentences end where a mark of their end, closing marks aside, stands before a blank, and at line feeds."""
    points = words.points
    feed = points == 10
    blank = np.append(feed | (points == 32) | (points == 9), True)
    end = words.kinds & ENDS != 0
    closing = words.kinds & CLOSES != 0
    for _ in range(2):
        end[1:] |= closing[1:] & end[:-1]
    stops = np.flatnonzero((end & blank[1:]) | feed) + 1
    at = np.searchsorted(words.starts, stops)
    at = at[(at > 0) & (at < len(words)) & (np.diff(at, prepend=0) > 0)]
    first = np.concatenate(([0], at)) if len(words) else np.zeros(0, np.int64)
    last = np.append(at, len(words)) if len(words) else np.zeros(0, np.int64)
    meant = words.is_word
    kept = np.concatenate(([0], np.cumsum(meant)))
    hashes = hash_runs(words.lower[meant], kept[first], kept[last])
    return Spans(words.starts[first], words.ends[last - 1], hashes)


def spans(words: Words) -> tuple[npt.NDArray[Any], Hashes]:
    """Numbers of the sentences at which three in a row begin that have words enough, and the hash of each three."""
    found = sentences(words)
    if len(found) < SPAN:
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    seen = np.concatenate(([0], np.cumsum(words.is_word)))
    first, last = np.searchsorted(words.starts, found.starts), np.searchsorted(words.starts, found.ends)
    counts = seen[last[SPAN - 1 :]] - seen[first[: 1 - SPAN]]
    enough = np.flatnonzero(counts >= FEWEST_WORDS)
    return enough, grams(found.hashes, SPAN)[enough]
