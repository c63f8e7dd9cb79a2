"""Gopher's quality rules (Rae et al. 2021, appendix A1)."""

from collections.abc import Iterator

import numpy as np

from troth.curate.filter.finding import Finding
from troth.curate.filter.words import Words, among, hash_exact

MIN_WORDS, MAX_WORDS = 50, 100_000
MIN_MEAN_WORD_LENGTH, MAX_MEAN_WORD_LENGTH = 3.0, 10.0
"""Characters."""
MAX_SYMBOLS = 0.1
"""Hash signs, or ellipses, a word."""
MAX_BULLET_LINES = 0.9
MAX_ELLIPSIS_LINES = 0.3
MIN_ALPHABETIC = 0.8
"""Share of words with a letter in them."""
MIN_STOP_WORDS = 2
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_STOP = hash_exact(STOP_WORDS)


def quality(words: Words, *, english: bool = True) -> Iterator[Finding]:
    """Gopher's quality rules, in the order in which datatrove applies them; the stop words are English."""
    plain = words.is_word
    count = int(plain.sum())
    yield Finding("gopher_words", count, MIN_WORDS, least=True)
    yield Finding("gopher_words", count, MAX_WORDS)
    mean = float(words.lengths[plain].mean()) if count else 0.0
    yield Finding("gopher_mean_word_length", mean, MIN_MEAN_WORD_LENGTH, least=True)
    yield Finding("gopher_mean_word_length", mean, MAX_MEAN_WORD_LENGTH)
    text, all_words = words.text, max(1, len(words))
    yield Finding("gopher_hash_signs", text.count("#") / all_words, MAX_SYMBOLS)
    yield Finding("gopher_ellipses", (text.count("...") + text.count("…")) / all_words, MAX_SYMBOLS)
    lines = text.splitlines()
    bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
    yield Finding("gopher_bullet_lines", bullets / max(1, len(lines)), MAX_BULLET_LINES)
    ellipses = sum(line.rstrip().endswith(("...", "…")) for line in lines)
    yield Finding("gopher_ellipsis_lines", ellipses / max(1, len(lines)), MAX_ELLIPSIS_LINES)
    yield Finding("gopher_alphabetic", int(words.has_letter.sum()) / all_words, MIN_ALPHABETIC, least=True)
    if english:
        stops = len(np.unique(words.exact[among(words.exact, _STOP)]))
        yield Finding("gopher_stop_words", stops, MIN_STOP_WORDS, least=True)
