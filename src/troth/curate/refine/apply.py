"""Edits made and taken back: the curated text from the original one, and the original from the curated."""

from collections.abc import Iterable
from dataclasses import replace

from troth.curate.document import Document
from troth.curate.records import CorrectionRow


def apply(document: Document, corrections: Iterable[CorrectionRow]) -> Document:
    """The document with its corrections made, which do not overlap; one without any is returned as it is.

    Raises ValueError where the text is not the one that the corrections were made for.
    """
    text = document.text.encode()
    pieces: list[bytes] = []
    at = 0
    for one in sorted(corrections, key=lambda one: one.byte_start):
        if one.byte_start < at or text[one.byte_start : one.byte_end] != one.old.encode():
            raise ValueError(f"{one.source_id}: bytes {one.byte_start} to {one.byte_end} are not {one.old!r}")
        pieces += text[at : one.byte_start], one.new.encode()
        at = one.byte_end
    return replace(document, text=(b"".join(pieces) + text[at:]).decode()) if pieces else document


def revert(document: Document, corrections: Iterable[CorrectionRow]) -> Document:
    """The original of a curated document, from the corrections that were made in it."""
    moved = 0
    back: list[CorrectionRow] = []
    for one in sorted(corrections, key=lambda one: one.byte_start):
        start = one.byte_start + moved
        size = len(one.new.encode())
        back.append(replace(one, byte_start=start, byte_end=start + size, old=one.new, new=one.old))
        moved += size - (one.byte_end - one.byte_start)
    return apply(document, back)
