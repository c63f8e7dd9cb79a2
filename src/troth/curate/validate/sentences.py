"""Sentences of a document, with where they stand in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from troth.curate.document import Document

_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Mt|No|vs|etc|e\.g|i\.e|c|ca|approx|Jr|Sr|Inc|Ltd|Prof|Gen|Col)|\b[A-Z])\.$"
)
_END = re.compile(r"[.!?][\"')\]]*(?=\s+[\"'(\[]?[^\Wa-z_])|\n\n+")


@dataclass(frozen=True)
class Sentence:
    """`text` is `document.text[start:end]`."""

    document: Document
    start: int
    end: int

    @property
    def text(self) -> str:
        """The words themselves."""
        return self.document.text[self.start : self.end]

    @property
    def bytes(self) -> tuple[int, int]:
        """Where the sentence begins and ends in the document's UTF-8."""
        start = len(self.document.text[: self.start].encode())
        return start, start + len(self.text.encode())


def sentences(document: Document) -> Iterator[Sentence]:
    """Split at full stops before capitals and at blank lines; initials and common abbreviations do not end one."""
    text, start = document.text, 0
    for match in [*_END.finditer(text), None]:
        end = match.end() if match else len(text)
        if match and not match.group().startswith("\n") and _ABBREVIATION.search(text[start : match.start() + 1]):
            continue
        piece = text[start:end]
        body = piece.strip()
        if body:
            first = start + len(piece) - len(piece.lstrip())
            yield Sentence(document, first, first + len(body))
        start = end
