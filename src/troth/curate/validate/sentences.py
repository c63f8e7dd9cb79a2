"""Sentences of a document, with where they stand in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from troth.curate.document import Document

_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Mt|No|vs|etc|e\.g|i\.e|c|ca|approx|Jr|Sr|Inc|Ltd|Prof|Gen|Col)|\b[A-Z])\.$"
)
_END = re.compile(r"[.!?][\"')\]]*(?=\s+[\"'(\[]?[^\Wa-z_])|\n\n+")


@dataclass(frozen=True)
class Sentence:
    """`text` is `document.text[start:end]`, and begins at `byte_start` of the document's UTF-8."""

    document: Document
    start: int
    end: int
    byte_start: int

    @cached_property
    def text(self) -> str:
        """The words themselves."""
        return self.document.text[self.start : self.end]

    @cached_property
    def bytes(self) -> tuple[int, int]:
        """Where the sentence begins and ends in the document's UTF-8."""
        return self.byte_start, self.byte_start + len(self.text.encode())


def sentences(document: Document) -> Iterator[Sentence]:
    """Split at full stops before capitals and at blank lines; initials and common abbreviations do not end one."""
    text, start = document.text, 0
    at = byte_at = 0
    for match in [*_END.finditer(text), None]:
        end = match.end() if match else len(text)
        if match and not match.group().startswith("\n") and _ABBREVIATION.search(text[start : match.start() + 1]):
            continue
        piece = text[start:end]
        body = piece.strip()
        if body:
            first = start + len(piece) - len(piece.lstrip())
            at, byte_at = first, byte_at + len(text[at:first].encode())
            yield Sentence(document, first, first + len(body), byte_at)
        start = end
