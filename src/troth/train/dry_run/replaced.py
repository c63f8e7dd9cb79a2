"""Attributes of modules and classes that are others for a while."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(others: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """Set attributes, each (owner, name, value), and set them back at the end."""
    others = list(others)
    before = [getattr(owner, name) for owner, name, _ in others]
    for owner, name, value in others:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(others, before, strict=True):
            setattr(owner, name, value)
