"""Replacing pieces of a text, each with the rule that asked for it."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """Characters `start` to `end` of a text become `new`, because of `rule`; `shown` is what the ledger may say of
    the old ones."""

    start: int
    end: int
    new: str
    rule: str
    shown: str


def apart(edits: Iterable[Edit]) -> list[Edit]:
    """In order of place; of two that overlap the one that begins first, or the longer, stays."""
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda one: (one.start, -one.end, one.rule)):
        if not kept or edit.start >= kept[-1].end:
            kept.append(edit)
    return kept


def make(text: str, edits: list[Edit]) -> str:
    """The text after edits that `apart` gave."""
    pieces: list[str] = []
    at = 0
    for edit in edits:
        pieces += [text[at : edit.start], edit.new]
        at = edit.end
    return "".join([*pieces, text[at:]])


def masked(text: str) -> str:
    """Enough of a secret to find it again, not enough to use it: its first two characters and its length."""
    return f"{text[:2]}… ({len(text)} characters)"
