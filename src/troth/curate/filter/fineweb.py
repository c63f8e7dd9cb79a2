"""FineWeb's own rules (Penedo et al. 2024, section 3.6)."""

import unicodedata
from collections.abc import Iterator
from functools import cache

import numpy as np

from troth.curate.filter.finding import Finding
from troth.curate.filter.repetition import repeated
from troth.curate.filter.words import Hashes, Words, among

MIN_PUNCTUATED_LINES = 0.12
"""Share of lines that end a sentence."""
SHORT_LINE = 30
"""Characters of a short line, at most."""
MAX_SHORT_LINES = 0.67
MAX_DUPLICATE_LINE_CHARACTERS = 0.01
MAX_LINE_FEEDS = 0.3
"""Line feeds a word."""


def fineweb(words: Words) -> Iterator[Finding]:
    """FineWeb's rules, in its order. Lines of blanks do not count."""
    lines = words.lines
    filled = words.filled(lines)
    lengths, count = lines.lengths[filled], int(filled.sum())
    if not count:
        return
    ends = among(words.points[lines.ends[filled] - 1].astype(np.uint64), _terminals())
    yield Finding("fineweb_punctuated_lines", int(ends.sum()) / count, MIN_PUNCTUATED_LINES, least=True)
    yield Finding("fineweb_short_lines", int((lengths <= SHORT_LINE).sum()) / count, MAX_SHORT_LINES)
    again = lengths[repeated(lines.hashes[filled])]
    feeds = len(lines) - 1
    share = int(again.sum()) / (len(words.text) - feeds)
    yield Finding("fineweb_duplicate_line_characters", share, MAX_DUPLICATE_LINE_CHARACTERS)
    yield Finding("fineweb_line_feeds", feeds / max(1, len(words)), MAX_LINE_FEEDS)


@cache
def _terminals() -> Hashes:
    """Characters that end a sentence, of any script: full stops, question and exclamation marks by their names."""
    names = ("FULL STOP", "QUESTION MARK", "EXCLAMATION MARK", "DANDA", "INTERROBANG", "PHILIPPINE", "KHAN", "CARIK")
    found = [
        point for point in range(0x20000)
        if unicodedata.category(chr(point)) == "Po" and any(word in unicodedata.name(chr(point), "") for word in names)
        and "INVERTED" not in unicodedata.name(chr(point))
    ]  # fmt: skip
    return np.array(found, np.uint64)
