"""CSV and TSV: with a column of text one document a row, without one a table whose rows become lines of text."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from troth.curate.collect.encoding import lines
from troth.curate.collect.reader import Origin, Rejected, document
from troth.curate.collect.records import KNOWN, from_record
from troth.curate.collect.text import clean
from troth.curate.document import Document

_DELIMITERS = ",;\t|"
_LONGEST = 2**31 - 1
_SEPARATOR = re.compile(r"sep=(.)\s*$", re.IGNORECASE)
_CHUNK = 64 << 10
_BARE_RETURN = re.compile(r"(?<=\r)(?!\n)")
"""Where a line ends as on old Macs."""


def read_csv(stream: io.BufferedReader, origin: Origin) -> Iterator[Document | Rejected]:
    """The first row names the columns, in any order and case. Fields are kept apart by commas, or by `;`, tabs or `|`
    where these part the first row into more, or by what a line such as `sep=;`, as Excel writes it, says before it."""
    return _read(stream, origin, _DELIMITERS)


def read_tsv(stream: io.BufferedReader, origin: Origin) -> Iterator[Document | Rejected]:
    """As `read_csv`, with tabs between the fields."""
    return _read(stream, origin, "\t")


def _read(stream: io.BufferedReader, origin: Origin, delimiters: str) -> Iterator[Document | Rejected]:
    encodings = {"": ""}
    texts = _Texts(stream, encodings)
    head = next(filter(str.strip, texts), "")
    previous = csv.field_size_limit(_LONGEST)
    try:
        if (said := _SEPARATOR.match(head)) and len(delimiters) > 1:
            head, delimiter = next(texts, ""), said[1]
        else:
            delimiter = max(delimiters, key=lambda one: len(next(csv.reader([head], delimiter=one), [])))
        texts.put_back(head)
        rows = csv.reader(texts, delimiter=delimiter, strict=True)
        columns = [name.strip() for name in next(rows, [])]
        if not any(columns):
            raise ValueError("no row that names the columns")
        lower = [name.lower() for name in columns]
        if origin.text_column.lower() in lower:
            yield from _documents(_whole(rows, columns), lower, origin, encodings)
        else:
            yield from table_documents(_whole(rows, columns), columns, origin, encodings)
    except csv.Error as error:
        raise ValueError(f"broken CSV: {error}") from error
    finally:
        csv.field_size_limit(previous)


class _Texts:
    """Lines of the file; `encodings[""]` tells what the last one was decoded from. Raises ValueError for a line that is
    no text, after which it goes on with the next."""

    def __init__(self, stream: io.BufferedReader, encodings: dict[str, str]):
        self._lines, self._encodings = lines(stream), encodings
        self._waiting: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._waiting:
            line, encoding = next(self._lines)
            if not encoding:
                raise ValueError(line)
            self._encodings[""] = encoding
            self._waiting = list(filter(None, _BARE_RETURN.split(line)))[::-1]
        return self._waiting.pop()

    def put_back(self, line: str) -> None:
        """Let a line come again."""
        self._waiting.append(line)


def _documents(
    rows: Iterable[list[str] | str], columns: list[str], origin: Origin, encodings: dict[str, str]
) -> Iterator[Document | Rejected]:
    wanted = {name: columns.index(name) for name in KNOWN if name in columns and name != "ancestors"}
    wanted[origin.text_column] = columns.index(origin.text_column.lower())
    for number, row in enumerate(rows):
        where = origin.record(number)
        if isinstance(row, str):
            yield Rejected(where, row)
            continue
        try:
            yield from_record({name: row[at] for name, at in wanted.items()}, origin, where, encodings[""])
        except ValueError as error:
            yield Rejected(where, str(error))


def _whole(rows: Iterator[list[str]], columns: list[str]) -> Iterator[list[str] | str]:
    """Rows, or what is wrong with one."""
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield f"broken CSV from here on: {error}"
            return
        except ValueError as error:
            yield str(error)
            continue
        if row:
            yield row if len(row) == len(columns) else f"{len(row)} fields where the head has {len(columns)}"


def table_documents(
    rows: Iterable[Sequence[Any] | str], columns: Sequence[str], origin: Origin, encodings: dict[str, str]
) -> Iterator[Document | Rejected]:
    """A table as documents of kind `table`: each row is a line `column: value; column: value`, without empty cells.

    A table of more than 64 kB of text becomes several documents, numbered from 0. A row given as text is set aside for
    that reason, under its number among the rows. Raises ValueError where no row has anything.
    """
    waiting: list[str] = []
    size = chunks = 0
    before = f"{origin.start}+" if origin.start else ""
    about = {"title": origin.source.rpartition("/")[2].partition(".")[0].replace("_", " ")}
    for number, row in enumerate(rows):
        if isinstance(row, str):
            yield Rejected(origin.record(f"{before}row{number}"), row)
            continue
        cells = ["" if cell is None else " ".join(str(cell).split()) for cell in row]
        named = zip(columns, cells, strict=True)
        line = clean("; ".join(f"{name}: {cell}" if name else cell for name, cell in named if cell))
        if size + len(line) > _CHUNK and waiting:
            yield _chunk(waiting, origin, about, origin.record(f"{before}{chunks}"), encodings)
            waiting, size, chunks = [], 0, chunks + 1
        if line:
            waiting.append(line)
            size += len(line) + 1
    source = origin.record(f"{before}{chunks}") if chunks or before else ""
    yield _chunk(waiting, origin, about, source, encodings)


def _chunk(
    waiting: list[str], origin: Origin, about: dict[str, str], source: str, encodings: dict[str, str]
) -> Document:
    return document("\n".join(waiting), origin, about, source, kind="table", encoding=encodings[""])
