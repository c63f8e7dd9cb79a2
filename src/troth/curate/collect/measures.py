"""What the quality rules measure on a text and its words."""

import re
from collections import Counter
from itertools import pairwise

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
FUNCTION_WORDS = frozenset(_ENGLISH.split())
_LOREM = frozenset(_PLACEHOLDER.split())
_EDGES = "\"'“”‘’«»()[]{}<>.,;:!?…*_`|/-–—"
_STOPS = (".", "!", "?", ":", ";", '"', "”", "’", "'", ")", "]", "…", "。")


def words(text: str) -> list[str]:
    """Words in lower case, without the punctuation around them; what is all punctuation stays as it is."""
    return [word.strip(_EDGES) or word for word in text.lower().split()]


def mean_length(words: list[str]) -> float:
    """Characters a word."""
    return sum(map(len, words)) / len(words)


def alphabetic(words: list[str]) -> float:
    """Share of words with at least one letter."""
    return sum(any(char.isalpha() for char in word) for word in words) / len(words)


def function_words(words: list[str]) -> float:
    """Share of English function words."""
    return sum(word in FUNCTION_WORDS for word in words) / len(words)


def lorem(words: list[str]) -> float:
    """Share of words of the placeholder text Lorem ipsum, where its name occurs."""
    if ("lorem", "ipsum") not in pairwise(words):
        return 0.0
    return sum(word in _LOREM for word in words) / len(words)


def top_word(words: list[str]) -> float:
    """Share of the most frequent word that is no function word."""
    counts = Counter(word for word in words if word not in FUNCTION_WORDS and re.search(r"[^\W\d_]{2}", word))
    return max(counts.values(), default=0) / len(words)


def top_trigram(words: list[str]) -> float:
    """Share of characters that stand in the most frequent three words in a row, where these occur twice or more."""
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    top, times = max(Counter(trigrams).items(), key=lambda item: (item[1], item[0]), default=(("",), 0))
    return times * sum(map(len, top)) / sum(map(len, words)) if times > 1 else 0.0


def repeated_trigrams(words: list[str]) -> float:
    """Share of threes of words in a row that occurred before."""
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0


def repeated_lines(text: str) -> float:
    """Share of lines that occurred before."""
    lines = _lines(text)
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def punctuated(text: str) -> float:
    """Share of lines that end with punctuation; 1 for texts of fewer than five lines, which say little of it."""
    lines = _lines(text)
    return sum(line.endswith(_STOPS) for line in lines) / len(lines) if len(lines) >= 5 else 1.0


def rows(text: str) -> float:
    """Share of lines that look like the row of a table: no full stop, and three cells or more between commas or
    semicolons."""
    lines = _lines(text)
    return sum(not line.endswith(".") and len(re.findall(r"[,;] ", line)) >= 2 for line in lines) / max(1, len(lines))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]
