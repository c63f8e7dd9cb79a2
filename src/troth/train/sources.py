"""Rows of files of every kind, read as a stream: Parquet, JSON lines and Lance, on this machine or at an fsspec URL."""

import json
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from troth.system.storage import filesystem

_LINES = {".jsonl", ".ndjson", ".json"}
_PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_ROWS = 256
"""Rows of a table that are held at a time."""
_OBJECTIVES = {"chosen": "preference", "messages": "chat", "conversations": "chat", "text": "documents"}
"""Which objective reads files that have such a column."""


@dataclass(frozen=True)
class Row:
    """Values by column, where they stand for messages, and the name of their file without its ending."""

    place: str
    file: str
    values: dict[str, Any]


Wanted = Callable[[Row], bool]


def every_row(row: Row) -> bool:
    """Leaves out none."""
    return True


def read_rows(
    sources: Sequence[str], needed: Sequence[str], others: Sequence[str], wanted: Wanted = every_row
) -> Iterator[Row]:
    """The `wanted` rows of all files, source after source, a folder's files by name; each has the columns `needed`
    (`a|b` is one or the other, of which messages name the first), and may have `others`.

    A source is a file, a folder or an fsspec URL of one: `.parquet`, `.jsonl`, `.ndjson` or `.json` (an object a line,
    or in `.json` one array of them, which is read whole; also packed, as `.jsonl.gz`, `.zst` or `.bz2`), or a Lance
    dataset, a folder `.lance`. Raises ValueError naming the file, and the line or column, that cannot be read.
    """
    for source in sources:
        fs, path = filesystem(source)
        try:
            files = list(_files(fs, path))
        except FileNotFoundError:
            raise ValueError(f"{source}: cannot be read: no such file or folder") from None
        except Exception as error:  # Every file system has errors of its own.
            raise ValueError(f"{source}: cannot be read ({error!r})") from error
        if not files:
            raise ValueError(
                f"{source}: nothing to read; expected Parquet, JSON lines or a Lance dataset (.parquet, .jsonl, "
                ".lance), which `troth curate` makes of other documents"
            )
        for file in files:
            yield from filter(wanted, _rows(fs, file, needed, others))


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


def _rows(fs: Any, path: str, needed: Sequence[str], others: Sequence[str]) -> Iterator[Row]:
    import pyarrow as pa

    form, name = _form(path), fs.unstrip_protocol(path)
    place = path if name.startswith(("file://", "local://")) else name
    file = PurePosixPath(path).name.partition(form)[0]
    if form in (".parquet", ".lance"):
        read = _parquet_batches if form == ".parquet" else _lance_batches
        rows = _batch_rows(read(fs, path, place, needed, others), place)
    else:
        rows = _line_rows(fs, path, place, needed)
    while True:
        try:
            where, values = next(rows)
        except StopIteration:
            return
        except Exception as error:  # Every file system has errors of its own.
            if isinstance(error, ValueError) and not isinstance(error, pa.ArrowException):
                raise
            raise ValueError(f"{place}: not readable ({error!r})") from error
        yield Row(where, file, values)


def _parquet_batches(fs: Any, path: str, place: str, needed: Sequence[str], others: Sequence[str]) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with fs.open(path) as stream, pq.ParquetFile(stream, buffer_size=2**20) as file:
        yield from file.iter_batches(_ROWS, columns=_columns(file.schema_arrow.names, place, needed, others))


def _lance_batches(fs: Any, path: str, place: str, needed: Sequence[str], others: Sequence[str]) -> Iterator[Any]:
    import lance

    # Lance has drivers of its own for object storage, which take the same URLs.
    try:
        data = lance.dataset(place)
    except ValueError as error:
        raise ValueError(f"{place}: no Lance dataset ({str(error).splitlines()[0]})") from error
    columns = _columns(data.schema.names, place, needed, others)
    yield from data.scanner(columns=columns, batch_size=_ROWS).to_batches()


def _columns(names: list[str], place: str, needed: Sequence[str], others: Sequence[str]) -> list[str]:
    for name in needed:
        if not _has(names, name):
            raise ValueError(f"{place}: no column {_told(name)}; it has {_found(names, needed)}")
    return [name for part in (*needed, *others) for name in part.split("|") if name in names]


def _has(names: Container[str], needed: str) -> bool:
    return any(name in names for name in needed.split("|"))


def _told(needed: str) -> str:
    return repr(needed.partition("|")[0])


def _found(names: Iterable[str], needed: Sequence[str]) -> str:
    """What there is instead, and with which objective it would be read."""
    names, asked = list(names), "|".join(needed).split("|")
    other = next((_OBJECTIVES[name] for name in _OBJECTIVES if name in names and name not in asked), None)
    return (", ".join(names) or "nothing") + (f", which train.objective={other} reads" if other else "")


_Values = Iterator[tuple[str, dict[str, Any]]]
"""Values, each with where they stand."""


def _batch_rows(batches: Iterator[Any], place: str) -> _Values:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            yield f"{place}, row {number}", {column: _without_nulls(value) for column, value in row.items()}
            number += 1


def _without_nulls(value: Any) -> Any:
    """What a table of nested columns was made of: there each struct has the keys of all, null where it had none."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _line_rows(fs: Any, path: str, place: str, needed: Sequence[str]) -> _Values:
    import pyarrow as pa

    packed = _PACKED.get(PurePosixPath(path).suffix)
    with fs.open(path) as stream:
        lines = pa.CompressedInputStream(stream, packed) if packed else stream
        for where, row in _objects(_lines(lines), place, arrays=_form(path) == ".json"):
            if not isinstance(row, dict):
                told = " and ".join(map(_told, needed))
                raise ValueError(f"{where}: a {type(row).__name__}; expected an object, with {told}")
            for name in needed:
                if not _has(row, name):
                    raise ValueError(f"{where}: no {_told(name)}; it has {_found(row, needed)}")
            yield where, row


def _objects(lines: Iterator[bytes], place: str, arrays: bool) -> Iterator[tuple[str, Any]]:
    """What stands on each line, or the items of an array where there may be one."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{place}, line {number}"
        array = arrays and number == 1 and line.lstrip().startswith(b"[")
        try:
            found = json.loads(b"\n".join([line, *lines]) if array else line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: no JSON ({error})") from error
        if array:
            yield from ((f"{place}, item {item}", row) for item, row in enumerate(found, start=1))
        else:
            yield where, found


def _lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(2**20):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest
