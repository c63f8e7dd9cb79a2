"""What every reader of a file format is given and gives back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from troth.curate.collect.dates import iso_date
from troth.curate.document import Document

_WHOLE = 64 << 20
_TOO_LARGE = "larger than {} MB, too large to be read as one document; split it"
_ID = re.compile(r"#?(?:[a-z]+[-_:.])*\d+(?:[-_.:]\d+)*|[a-z]{1,4}\d{4,}|(?=\D*\d)[\da-f-]{12,}", re.IGNORECASE)
_PATH = re.compile(r"[/\\#]|\.(?:txt|md|html?|pdf|docx?|jsonl?|csv|tsv|parquet|xml|warc)$", re.IGNORECASE)


@dataclass(frozen=True)
class Rejected:
    """A file or record that could not be read, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Origin:
    """Where a file comes from: the `source` and `collection` of its documents, the ISO date on which it was
    `retrieved`, and the licence and publisher that hold where the file names none.

    A large file may be read in slices: from `start` to before `end`, in bytes for JSON lines and in row groups for
    Parquet. Without an `end` the whole file is meant. `text_column` is the field of a record that holds its text.
    """

    source: str
    collection: str = "documents"
    retrieved: str = ""
    licence: str = ""
    publisher: str = ""
    start: int = 0
    end: int = 0
    text_column: str = "text"

    def record(self, number: int | str) -> str:
        """The source of one record of the file."""
        return f"{self.source}#{number}"


def document(text: str, origin: Origin, about: Mapping[str, str], source: str = "", **more: Any) -> Document:
    """A document from its text and what the file says of itself, under the keys title, publisher (or source or url),
    published (or published_at or date), retrieved (or retrieved_at) and licence (or license), in lower case; `more` are
    further fields. Raises ValueError where there is no text, or too much of it."""
    if not text.strip():
        raise ValueError("no text")
    if len(text) > _WHOLE:
        raise ValueError(_TOO_LARGE.format(_WHOLE >> 20))
    known = {key: " ".join(value.split()) for key, value in about.items()}
    return Document(
        source=source or origin.source,
        collection=origin.collection,
        text=text,
        title=known.get("title", ""),
        publisher=known.get("publisher") or _who(known) or origin.publisher,
        published=iso_date(known.get("published") or known.get("published_at") or known.get("date", "")),
        retrieved=iso_date(known.get("retrieved") or known.get("retrieved_at", "")) or origin.retrieved,
        licence=known.get("licence") or known.get("license") or origin.licence,
        **more,
    )


def _who(known: Mapping[str, str]) -> str:
    """Who speaks, by the name of a source, or the host of its address; a path names nobody, nor does a number."""
    for name in (known.get("source", ""), known.get("url", "")):
        if "://" in name:
            return (urlsplit(name).hostname or "").removeprefix("www.")
        if name and not _PATH.search(name) and not _ID.fullmatch(name):
            return name
    return ""


def read_whole(stream: BinaryIO, most: int = _WHOLE) -> bytes:
    """All of a file whose format can only be read as a whole. Raises ValueError where it has more than `most` bytes."""
    pieces: list[bytes] = []
    left = most + 1
    while left and (piece := stream.read(left)):
        pieces.append(piece)
        left -= len(piece)
    if not left:
        raise ValueError(_TOO_LARGE.format(most >> 20))
    return b"".join(pieces)
