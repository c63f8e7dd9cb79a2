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
KNOWN = (*ABOUT, "language", "kind", "ancestors", "derived_from")
"""The columns that a record may have besides its text; others are passed over."""
_NAMED = 8
"""Fields of a record without text that a message names at most."""


def read_json_lines(stream: io.BufferedReader, origin: Origin) -> Iterator[Document | Rejected]:
    """Empty lines do not count as records; a broken one is set aside and keeps its number."""
    number = 0
    for line, encoding in lines(stream):
        if line.isspace():
            continue
        # How many records come before a slice is not known, only how many bytes.
        where = origin.record(f"{origin.start}+{number}" if origin.start else number)
        yield _read_line(line, origin, where, encoding)
        number += 1


def read_json(stream: io.BufferedReader, origin: Origin) -> Iterator[Document | Rejected]:
    """JSON lines, or what is read as a whole: an array of records, or a record of many lines."""
    begins = stream.peek(1)[:64].translate(None, b"\0\xff\xfe").lstrip(b"\xef\xbb\xbf \t\r\n")  # of UTF-16, too
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


def _read_line(line: str, origin: Origin, where: str, encoding: str) -> Document | Rejected:
    """A record from the line that holds it; without an encoding, what is wrong with the line."""
    if not encoding:
        return Rejected(where, line)
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        return Rejected(where, f"broken JSON: {error}")
    except (ValueError, RecursionError) as error:
        return Rejected(where, str(error))
    return _read(record, origin, where, encoding)


def _read(record: Any, origin: Origin, where: str, encoding: str) -> Document | Rejected:
    try:
        return from_record(record, origin, where, encoding)
    except ValueError as error:
        return Rejected(where, str(error))


def from_record(record: Any, origin: Origin, where: str, encoding: str) -> Document:
    """A document from a mapping with the field `origin.text_column`, and what Troth knows of the other columns: text
    that is a program stays as it is written, and ancestry is kept. Raises ValueError naming what is missing or wrong.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"no record with fields, but {type(record).__name__}")
    text = record.get(origin.text_column)
    if not isinstance(text, str):
        raise ValueError(_lacking(record, origin.text_column))
    about = {key: str(record[key]) for key in ABOUT if record.get(key) is not None}
    more = _more(record)
    text = text if more["kind"] == "code" else clean(text)
    text.encode()  # JSON can spell half a character, which no file can hold
    return document(text, origin, about, where, encoding=encoding, **more)


def _lacking(record: Mapping[str, Any], column: str) -> str:
    if record.get(column) is not None:
        return f"no text in field {column}, but {type(record[column]).__name__}"
    if column in record:
        return "no text"
    there = ", ".join(map(str, list(record)[:_NAMED])) or "none"
    return f"no field {column}: it has {there} (curate.text_column names another)"


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
