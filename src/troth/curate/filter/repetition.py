"""How much of a text repeats itself, after Gopher (Rae et al. 2021, appendix A1, table A1), on hashes of words."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from troth.curate.filter.finding import Finding
from troth.curate.filter.words import Hashes, Places, Spans, Words, among, grams, runs_of_equals

MAX_DUPLICATE_LINES = MAX_DUPLICATE_PARAGRAPHS = 0.3
"""Share of lines or paragraphs that repeat an earlier one."""
MAX_DUPLICATE_LINE_CHARACTERS = MAX_DUPLICATE_PARAGRAPH_CHARACTERS = 0.2
"""Share of the characters in these."""
MAX_TOP_GRAM = {2: 0.2, 3: 0.18, 4: 0.16}
"""Share of characters in the most frequent n words in a row."""
MAX_REPEATED_GRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}
"""Share of characters in n words in a row that occurred before, none of them counted twice."""


def repetition(words: Words) -> Iterator[Finding]:
    """Gopher's repetition rules, in the order of its table."""
    characters = len(words.text)
    if not characters:
        return
    for name, spans, most, most_characters in (
        ("paragraphs", paragraphs(words), MAX_DUPLICATE_PARAGRAPHS, MAX_DUPLICATE_PARAGRAPH_CHARACTERS),
        ("lines", filled_runs(words), MAX_DUPLICATE_LINES, MAX_DUPLICATE_LINE_CHARACTERS),
    ):
        again = repeated(spans.hashes)
        yield Finding(f"duplicate_{name}", int(again.sum()) / max(1, len(spans)), most)
        share = int(spans.lengths[again].sum()) / characters
        yield Finding(f"duplicate_{name[:-1]}_characters", share, most_characters)
    for n, limit in MAX_TOP_GRAM.items():
        yield Finding(f"top_{n}_gram", top_gram(words, n) / characters, limit)
    places = np.arange(max(0, len(words) - 4))
    for n, limit in MAX_REPEATED_GRAMS.items():
        places, value = repeated_grams(words, n, places)
        yield Finding(f"repeated_{n}_grams", value / characters, limit)


def paragraphs(words: Words) -> Spans:
    """Pieces between two line feeds or more in a row; blanks at the ends of the text belong to none."""
    text = words.text
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    return _between(words, 2, start, max(start, end))


def filled_runs(words: Words) -> Spans:
    """Pieces between runs of line feeds."""
    return _between(words, 1, 0, len(words.text))


def _between(words: Words, least: int, start: int, end: int) -> Spans:
    feeds = np.flatnonzero(words.points[start:end] == 10) + start
    first = np.flatnonzero(np.diff(feeds, prepend=-2) != 1)
    sizes = np.diff(first, append=len(feeds))
    wide = sizes >= least
    breaks, sizes = feeds[first][wide], sizes[wide]
    return words.spans(np.concatenate(([start], breaks + sizes)), np.append(breaks, end))


def repeated(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Which of them occurred before, shape of `hashes`."""
    again = np.zeros(len(hashes), bool)
    if len(hashes) > 1:
        order = np.argsort(hashes, kind="stable")
        ranked = hashes[order]
        again[order[1:][ranked[1:] == ranked[:-1]]] = True
    return again


def top_gram(words: Words, n: int) -> int:
    """Characters, with a blank between words, of the most frequent n words in a row times how often they occur."""
    found = grams(words.exact, n)
    if not len(found):
        return 0
    ranked = np.sort(found)
    first, counts = runs_of_equals(ranked)
    times = int(counts.max())
    tops = ranked[first[counts == times]]
    at = int(np.argmax(among(found, tops)))  # of several the first in the text counts
    return times * (int(words.lengths[at : at + n].sum()) + n - 1)


def repeated_grams(words: Words, n: int, places: Places) -> tuple[Places, int]:
    """Characters in n words in a row that occurred before, read from the left without counting a word twice.

    `places` are the words at which n in a row may occur elsewhere too; those that do are given back, as only there
    can longer ones.
    """
    places = places[places <= len(words) - n]
    if not len(places):
        return places, 0
    found = _grams_at(words.exact, n, places)
    order = np.argsort(found, kind="stable")
    ranked = found[order]
    same = ranked[1:] == ranked[:-1]
    if not same.any():
        return places[:0], 0
    shared = np.concatenate(([False], same)) | np.concatenate((same, [False]))
    chosen = np.sort(order[shared])
    places = places[chosen]
    return places, _greedy(words, n, places, found[chosen])


def _grams_at(hashes: Hashes, n: int, places: Places) -> Hashes:
    if len(places) * 2 > len(hashes):
        return grams(hashes, n)[places]
    return grams(np.lib.stride_tricks.sliding_window_view(hashes, n)[places].T, n)[0]


def _greedy(words: Words, n: int, places: Places, found: Hashes) -> int:
    sums = np.concatenate(([0], np.cumsum(words.lengths)))
    weights = (sums[places + n] - sums[places]).tolist()
    seen: set[int] = set()
    free, total = 0, 0
    for place, gram, weight in zip(places.tolist(), found.tolist(), weights, strict=True):
        if place < free:
            continue
        if gram in seen:
            total += weight
            free = place + n
        else:
            seen.add(gram)
    return total
