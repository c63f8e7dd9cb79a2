"""What every reader of a file format gives back."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from troth.curate.collect.dates import iso_date
from troth.curate.document import Document


@dataclass(frozen=True)
class Rejected:
    """A file or record that could not be read, and why."""

    source: str
    reason: str


Reader = Callable[[bytes, str, str], Iterable[Document | Rejected]]
"""Bytes of a file, its source and its collection to documents; ValueError sets the whole file aside."""


def document(text: str, source: str, collection: str, about: Mapping[str, str]) -> Document:
    """A document from its text and what the file says of itself, under the keys title, publisher, published (or
    date) and licence (or license), in lower case. Raises ValueError where there is no text."""
    if not text.strip():
        raise ValueError("no text")
    known = {key: " ".join(value.split()) for key, value in about.items()}
    return Document(
        source=source,
        collection=collection,
        text=text,
        title=known.get("title", ""),
        publisher=known.get("publisher", ""),
        published=iso_date(known.get("published") or known.get("date", "")),
        licence=known.get("licence") or known.get("license", ""),
    )
