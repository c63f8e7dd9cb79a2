"""C4's line and page rules (Raffel et al. 2020, section 2.2), with what its published code adds and, as in FineWeb's
recipe (Penedo et al. 2024, section 3.4), without the one that every line end a sentence: it costs headings and lists.
"""

import re
from dataclasses import dataclass

from troth.curate.filter.finding import Finding

MIN_SENTENCES = 5
MIN_LINE_WORDS = 3
MAX_WORD_LENGTH = 1000
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_SENTENCE_END = re.compile(r"[.?!][\"'”’)\]]*(?:\s|$)")


@dataclass(frozen=True)
class Lines:
    """What is left of a text, the lines that went with what was found on each, and what speaks against the rest."""

    text: str
    gone: list[tuple[str, Finding]]
    against: list[Finding]


def c4(text: str) -> Lines:
    """Take out lines and citation marks; empty lines, which keep paragraphs apart, stay."""
    kept: list[str] = []
    gone: list[tuple[str, Finding]] = []
    sentences = 0
    for line in text.split("\n"):
        words = line.split()
        if not words:
            kept.append("")
            continue
        lowered = line.lower()
        if "lorem ipsum" in lowered:
            return Lines(text, gone, [Finding("c4_lorem_ipsum", 1, 0)])
        found = _line(lowered, words)
        if found:
            gone.append((line, found))
            continue
        if "{" in line:
            return Lines(text, gone, [Finding("c4_curly_bracket", line.count("{"), 0)])
        bare = _CITATION.sub("", line) if "[" in line else line
        gone += [(mark, Finding("c4_citation", 1, 0)) for mark in _CITATION.findall(line)] if bare != line else []
        kept.append(bare)
        sentences += max(1, len(_SENTENCE_END.findall(bare)))
    few = Finding("c4_sentences", sentences, MIN_SENTENCES, least=True)
    left = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n") if gone else text
    return Lines(left, gone, [few] if few.broken else [])


def _line(lowered: str, words: list[str]) -> Finding | None:
    if len(lowered) > MAX_WORD_LENGTH and (longest := max(map(len, words))) > MAX_WORD_LENGTH:
        return Finding("c4_word_length", longest, MAX_WORD_LENGTH)
    if len(words) < MIN_LINE_WORDS:
        return Finding("c4_line_words", len(words), MIN_LINE_WORDS, least=True)
    if "javascript" in lowered:
        return Finding("c4_javascript", 1, 0)
    if any(words in lowered for words in _POLICY):
        return Finding("c4_policy", 1, 0)
    return None
