"""Documents to train on, read as a stream: Parquet, JSON lines and Lance, on this machine or at an fsspec URL."""

import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

_LINES = {".jsonl", ".ndjson", ".json"}
_PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_COLUMNS = "text", "collection", "weight"
_ROWS = 256
"""Rows of a table that are held at a time."""
_HEAVIEST = 100


def read_documents(sources: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """(collection, text, weight) of every document, source after source, a folder's files by name.

    A source is a file, a folder or an fsspec URL of one: `.parquet`, `.jsonl`, `.ndjson` or `.json` (an object a line;
    also packed, as `.jsonl.gz`, `.zst` or `.bz2`), or a Lance dataset, a folder `.lance`. A document has a `text`; its
    `collection` is the file's name where it names none, its `weight` 1. Raises ValueError naming the file, and the line
    or row, that cannot be read.
    """
    import fsspec

    for source in sources:
        try:
            fs, path = fsspec.core.url_to_fs(source)
            files = list(_files(fs, path))
        except Exception as error:  # Every file system has errors of its own.
            raise ValueError(f"{source}: cannot be read ({error!r})") from error
        if not files:
            raise ValueError(
                f"{source}: no documents; expected Parquet, JSON lines or a Lance dataset (.parquet, .jsonl, .lance)"
            )
        for file in files:
            yield from _documents(fs, file)


def _files(fs: Any, path: str) -> Iterator[str]:
    """The readable files at a path, and below it where it is a folder."""
    if _form(path) == ".lance" or not fs.isdir(path):
        if not fs.exists(path):
            raise FileNotFoundError(path)
        if _form(path):
            yield path
        return
    for below in sorted(fs.ls(path, detail=False)):
        if not PurePosixPath(below).name.startswith((".", "_")):
            yield from _files(fs, below)


def _form(path: str) -> str:
    """.parquet, .lance, or one of `_LINES`; empty for other files."""
    suffixes = PurePosixPath(path).suffixes
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
        return suffixes[-1] if suffixes and suffixes[-1] in _LINES else ""
    return suffixes[-1] if suffixes and suffixes[-1] in {".parquet", ".lance"} | _LINES else ""


def _documents(fs: Any, path: str) -> Iterator[tuple[str, str, float]]:
    import pyarrow as pa

    form, name = _form(path), fs.unstrip_protocol(path)
    place = path if name.startswith(("file://", "local://")) else name
    default = PurePosixPath(path).name.partition(form)[0]
    read = {".parquet": _parquet_rows, ".lance": _lance_rows}.get(form, _line_rows)
    rows = read(fs, path, place)
    while True:
        try:
            where, row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # Every file system has errors of its own.
            if isinstance(error, ValueError) and not isinstance(error, pa.ArrowException):
                raise
            raise ValueError(f"{place}: not readable ({error!r})") from error
        yield _checked(where, row, default)


def _checked(where: str, row: dict[str, Any], default: str) -> tuple[str, str, float]:
    text, collection, weight = (row.get(column) for column in _COLUMNS)
    if not isinstance(text, str):
        raise ValueError(f"{where}: text={text!r}; expected text")
    if not isinstance(collection, str | None):
        raise ValueError(f"{where}: collection={collection!r}; expected a name")
    if weight is None:
        weight = 1.0
    elif not (isinstance(weight, int | float) and 0 < weight <= _HEAVIEST):
        raise ValueError(f"{where}: weight={weight!r}; expected a number above 0, at most {_HEAVIEST}")
    return collection or default, text, float(weight)


_Rows = Iterator[tuple[str, dict[str, Any]]]
"""Rows, each with where it stands."""


def _parquet_rows(fs: Any, path: str, place: str) -> _Rows:
    import pyarrow.parquet as pq

    with fs.open(path) as stream, pq.ParquetFile(stream, buffer_size=2**20) as file:
        columns = _columns(file.schema_arrow.names, place)
        yield from _batch_rows(file.iter_batches(_ROWS, columns=columns), place)


def _lance_rows(fs: Any, path: str, place: str) -> _Rows:
    import lance

    # Lance has drivers of its own for object storage, which take the same URLs.
    try:
        data = lance.dataset(place)
    except ValueError as error:
        raise ValueError(f"{place}: no Lance dataset ({str(error).splitlines()[0]})") from error
    columns = _columns(data.schema.names, place)
    yield from _batch_rows(data.scanner(columns=columns, batch_size=_ROWS).to_batches(), place)


def _columns(names: list[str], place: str) -> list[str]:
    if "text" not in names:
        raise ValueError(f"{place}: no column 'text'; it has {', '.join(names)}")
    return [name for name in _COLUMNS if name in names]


def _batch_rows(batches: Iterator[Any], place: str) -> _Rows:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            yield f"{place}, row {number}", row
            number += 1


def _line_rows(fs: Any, path: str, place: str) -> _Rows:
    import pyarrow as pa

    packed = _PACKED.get(PurePosixPath(path).suffix)
    with fs.open(path) as stream:
        lines = pa.CompressedInputStream(stream, packed) if packed else stream
        for number, line in enumerate(_lines(lines), start=1):
            if not line.strip():
                continue
            where = f"{place}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{where}: no JSON ({error})") from error
            if not isinstance(row, dict):
                raise ValueError(f"{where}: expected an object, with a 'text'")
            if "text" not in row:
                raise ValueError(f"{where}: no 'text'; it has {', '.join(row)}")
            yield where, row


def _lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(2**20):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest
