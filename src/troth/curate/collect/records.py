"""JSON lines: one document a record, from its text and the columns that documents have in other formats too."""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from troth.curate.collect.encoding import decode, lines
from troth.curate.collect.reader import Origin, Rejected, document, read_whole
from troth.curate.collect.text import clean
from troth.curate.document import Document, Kind

ABOUT = (
    "title", "publisher", "source", "url", "published", "published_at", "date", "retrieved", "retrieved_at", "licence",
    "license",
)  # fmt: skip
KNOWN = ("text", *ABOUT, "language", "kind", "ancestors", "derived_from")
"""The columns that a record may have; others are passed over."""


def read_json_lines(stream: io.BufferedReader, origin: Origin) -> Iterator[Document | Rejected]:
    """Empty lines do not count as records; a broken one is set aside and keeps its number."""
    number = 0
    for line, encoding in lines(stream):
        if line.isspace():
            continue
        # How many records come before a slice is not known, only how many bytes.
        where = origin.record(f"{origin.start}+{number}" if origin.start else number)
        yield _read(line, origin, where, encoding)
        number += 1


def read_json(stream: io.BufferedReader, origin: Origin) -> Iterator[Document | Rejected]:
    """JSON lines, or what is read as a whole: an array of records, or a record of many lines."""
    begins = stream.peek(1).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not begins.startswith((b"[", b"{\n", b"{\r")):
        yield from read_json_lines(stream, origin)
        return
    text, encoding = decode(read_whole(stream))
    try:
        records = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"broken JSON: {error}") from error
    for number, record in enumerate(records if isinstance(records, list) else [records]):
        yield _read(record, origin, origin.record(number), encoding)


def _read(record: Any, origin: Origin, where: str, encoding: str) -> Document | Rejected:
    """A record, or the line that holds it; without an encoding, what is wrong with the line."""
    if not encoding:
        return Rejected(where, record)
    try:
        return from_record(json.loads(record) if isinstance(record, str) else record, origin, where, encoding)
    except json.JSONDecodeError as error:
        return Rejected(where, f"broken JSON: {error}")
    except (ValueError, RecursionError) as error:
        return Rejected(where, str(error))


def from_record(record: Any, origin: Origin, where: str, encoding: str) -> Document:
    """A document from a mapping with `text`, and what Troth knows of the other columns: text that is a program stays as
    it is written, and ancestry is kept. Raises ValueError naming what is missing or wrong."""
    match record:
        case {"text": str(text)}:
            about = {key: str(record[key]) for key in ABOUT if record.get(key) is not None}
            more = _more(record)
            text = text if more["kind"] == "code" else clean(text)
            text.encode()  # JSON can spell half a character, which no file can hold
            return document(text, origin, about, where, encoding=encoding, **more)
        case _:
            raise ValueError("no field text")


def _more(record: Mapping[str, Any]) -> dict[str, Any]:
    kind = record.get("kind") or "prose"
    if kind not in get_args(Kind):
        raise ValueError(f"kind={kind!r}; expected one of {', '.join(get_args(Kind))}")
    ancestors = record.get("ancestors")
    ancestors = [] if ancestors is None else ancestors
    if not isinstance(ancestors, list) or not all(type(one) is int and 0 <= one < 1 << 63 for one in ancestors):
        raise ValueError(f"ancestors={ancestors!r}; expected a list of generations such as [0, 1]")
    return {
        "kind": kind,
        "ancestors": tuple(ancestors),
        "language": str(record.get("language") or ""),
        "derived_from": str(record.get("derived_from") or ""),
    }
