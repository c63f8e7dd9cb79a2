"""Which lines of a text are headings."""

import re

_TITLE = re.compile(r"[^-*•|\n:][^\n:]*[^.!?:;,\"”)\n]")
_WORDS = 12
_LINE = re.compile(r"^#[^\n]*$|(?:\A|(?<=\n\n))[^\n]+(?=\n\n|\Z)", re.MULTILINE)
"""One with the mark of a heading, or a block of its own."""


def is_heading(block: str) -> bool:
    """Whether a block, as it stands between blank lines, is a heading: it has the mark of one, or is one short line
    that ends without a full stop and is no item of a list."""
    return block.startswith("#") or (_TITLE.fullmatch(block) is not None and len(block.split()) <= _WORDS)


def headings(text: str) -> list[str]:
    """The headings of a text, in their order."""
    return [line for found in _LINE.finditer(text) if is_heading(line := found.group().strip())]
