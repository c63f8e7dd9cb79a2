"""A few texts of each kind, to measure a model on."""

from collections.abc import Iterable

TEXTS, CHARACTERS = 24, 4_000
"""Texts of a kind, and characters of each."""


def sample_by_kind(texts: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The beginnings of the first texts of each kind, from (kind, text) pairs."""
    kinds: dict[str, list[str]] = {}
    for kind, text in texts:
        if len(members := kinds.setdefault(kind, [])) < TEXTS:
            members.append(text[:CHARACTERS])
    return kinds
