"""What the gentler rules measure on the words and lines of a text."""

import re

import numpy as np

from troth.curate.filter.repetition import repeated
from troth.curate.filter.words import Hashes, Words, among, grams, hash_words, runs_of_equals

_ENGLISH = (
    "a about after all also an and any are as at be because been before between both but by can could did do does each "
    "even every for from had has have he her here him his how i if in into is it its just many may me might more most "
    "much must my no nor not now of off on once one only or other our out over own she should so some such than that "
    "the their them then there these they this those through to too under until up us very was we were what when where "
    "which while who whom whose why will with would you your"
)
_PLACEHOLDER = (
    "lorem ipsum dolor sit amet consectetur adipiscing adipisicing elit sed eiusmod tempor incididunt ut labore et "
    "dolore magna aliqua enim ad minim veniam quis nostrud exercitation ullamco laboris nisi aliquip ex ea commodo "
    "consequat duis aute irure reprehenderit voluptate velit esse cillum eu fugiat nulla pariatur excepteur sint "
    "occaecat cupidatat non proident sunt culpa qui officia deserunt mollit anim id est laborum vivamus vestibulum "
    "pellentesque morbi tristique senectus netus malesuada fames ac turpis egestas"
)
FUNCTION_WORDS = hash_words(_ENGLISH.split())
"""Hashes of the words that hold English sentences together."""
_LOREM = hash_words(_PLACEHOLDER.split())
_STOPS = (".", "!", "?", ":", ";", '"', "”", "’", "'", ")", "]", "…", "。")
_CELL = re.compile(r"[,;] ")


def plain(words: Words) -> Hashes:
    """Hashes of the words in lower case, without punctuation."""
    return words.lower[words.is_word]


def mean_length(words: Words) -> float:
    """Characters a word."""
    return float(words.lengths[words.is_word].mean())


def alphabetic(words: Words) -> float:
    """Share of words with at least one letter."""
    return float(words.has_letter[words.is_word].mean())


def function_words(words: Words) -> float:
    """Share of English function words."""
    return float(among(plain(words), FUNCTION_WORDS).mean())


def lorem(words: Words) -> float:
    """Share of words of the placeholder text Lorem ipsum, where its name occurs."""
    if "orem ipsum" not in words.text and "OREM IPSUM" not in words.text:
        return 0.0
    return float(among(plain(words), _LOREM).mean())


def top_word(words: Words) -> float:
    """Share of the most frequent word that is no function word."""
    meant = words.is_word & words.has_letter & (words.lengths > 1)
    hashes = words.lower[meant]
    hashes = hashes[~among(hashes, FUNCTION_WORDS)]
    if not len(hashes):
        return 0.0
    _, counts = runs_of_equals(np.sort(hashes))
    return int(counts.max()) / int(words.is_word.sum())


def trigrams(words: Words) -> tuple[float, float]:
    """Share of characters that stand in the most frequent three words in a row, where these occur twice or more, and
    share of threes of words in a row that occurred before."""
    found = grams(plain(words), 3)
    if not len(found):
        return 0.0, 0.0
    ranked = np.sort(found)
    first, counts = runs_of_equals(ranked)
    times = int(counts.max())
    if times == 1:
        return 0.0, 0.0
    lengths = words.lengths[words.is_word]
    top = int(np.flatnonzero(np.isin(found, ranked[first[counts == times]]))[0])
    share = times * int(lengths[top : top + 3].sum()) / int(lengths.sum())
    return share, 1 - len(counts) / len(found)


def repeated_lines(words: Words) -> float:
    """Share of lines that occurred before."""
    hashes = words.lines.hashes[words.filled(words.lines)]
    return float(repeated(hashes).mean()) if len(hashes) else 0.0


def punctuated(text: str) -> float:
    """Share of lines that end with punctuation; 1 for texts of fewer than five lines, which say little of it."""
    lines = _lines(text)
    return sum(line.endswith(_STOPS) for line in lines) / len(lines) if len(lines) >= 5 else 1.0


def rows(text: str) -> float:
    """Share of lines that look like the row of a table: no full stop, and three cells or more between commas or
    semicolons."""
    lines = _lines(text)
    like = sum(not line.endswith(".") and len(_CELL.findall(line)) >= 2 for line in lines)
    return like / max(1, len(lines))


def _lines(text: str) -> list[str]:
    return [stripped for line in text.split("\n") if (stripped := line.strip())]
