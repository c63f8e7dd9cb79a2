"""JSON lines and CSV: one document a record, from its text, title, publisher, published and licence."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

from troth.curate.collect.reader import Rejected, document
from troth.curate.collect.text import clean, decode
from troth.curate.document import Document

_ABOUT = ("title", "publisher", "published", "date", "licence", "license")


def read_json_lines(data: bytes, source: str, collection: str) -> Iterator[Document | Rejected]:
    """Empty lines do not count as records; a broken one is set aside and keeps its number."""
    lines = [line for line in decode(data).split("\n") if line.strip()]
    for number, line in enumerate(lines):
        where = f"{source}#{number}"
        try:
            yield _record(json.loads(line), where, collection)
        except json.JSONDecodeError as error:
            yield Rejected(where, f"broken JSON: {error}")
        except (ValueError, RecursionError) as error:
            yield Rejected(where, str(error))


def read_csv(data: bytes, source: str, collection: str) -> Iterator[Document | Rejected]:
    """The first row names the columns, in any order and case; `text` must be one of them."""
    previous = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        rows = csv.reader(io.StringIO(decode(data), newline=""), strict=True)
        columns = [name.strip().lower() for name in next(rows, [])]
        if "text" not in columns:
            raise ValueError(f"no column text; the columns are: {', '.join(columns) or 'none'}")
        found: list[Document | Rejected] = []
        try:
            for number, row in enumerate(filter(None, rows)):
                found.append(_row(columns, row, f"{source}#{number}", collection))
        except csv.Error as error:
            found.append(Rejected(f"{source}#{len(found)}", f"broken CSV from here on: {error}"))
    except csv.Error as error:
        raise ValueError(f"broken CSV: {error}") from error
    finally:
        csv.field_size_limit(previous)
    yield from found


def _row(columns: list[str], row: list[str], where: str, collection: str) -> Document | Rejected:
    if len(row) != len(columns):
        return Rejected(where, f"{len(row)} fields where the head has {len(columns)}")
    try:
        return _record(dict(zip(columns, row, strict=True)), where, collection)
    except ValueError as error:
        return Rejected(where, str(error))


def _record(record: Any, where: str, collection: str) -> Document:
    match record:
        case {"text": str(text)}:
            about = {key: str(record[key]) for key in _ABOUT if record.get(key) is not None}
            return document(clean(text), where, collection, about)
        case _:
            raise ValueError("no field text")
