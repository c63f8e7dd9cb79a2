"""Rows of a dataclass in Parquet, written and read as a stream, so that memory stays flat however many there are."""

import os
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

_BATCH_ROWS, _BATCH_BYTES = 4096, 8 << 20
_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), bytes: pa.binary(),
}  # fmt: skip

T = TypeVar("T")


def schema(row: type) -> pa.Schema:
    """The Arrow schema of a dataclass whose fields are str, int, float, bool, bytes, literals of text, tuples of these,
    or one of these or None."""
    hints = get_type_hints(row)
    return pa.schema([pa.field(field.name, _type(hints[field.name])) for field in fields(row)])


def _type(hint: Any) -> pa.DataType:
    if hint in _SCALARS:
        return _SCALARS[hint]
    if get_origin(hint) is Literal:
        return pa.string()
    if get_origin(hint) is tuple:
        return pa.list_(_type(get_args(hint)[0]))
    assert get_origin(hint) in (Union, types.UnionType), hint
    return _type(next(part for part in get_args(hint) if part is not type(None)))


class RowWriter(Generic[T]):
    """A file of rows that are added one by one; as a context, it appears whole at the end, or not at all.

    No more than a few megabytes of rows wait to be written; `weigh` gives a row's bytes where rows are large.
    """

    def __init__(self, path: Path, row: type[T], weigh: Callable[[T], int] = lambda row: 0):
        self.count = 0
        self._path, self._weigh = path, weigh
        self._partial = path.with_name(f"{path.name}.partial")
        self._names = [field.name for field in fields(row)]  # type: ignore[arg-type]
        self._schema = schema(row)
        self._waiting: list[T] = []
        self._bytes = 0

    def __enter__(self) -> "RowWriter[T]":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._partial, self._schema, compression="zstd")
        return self

    def add(self, one: T) -> None:
        """One more row."""
        self._waiting.append(one)
        self._bytes += self._weigh(one)
        if len(self._waiting) >= _BATCH_ROWS or self._bytes > _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        columns = [[getattr(one, name) for one in self._waiting] for name in self._names]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self.count += len(self._waiting)
        self._waiting, self._bytes = [], 0

    def __exit__(self, kind: type[BaseException] | None, *about: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            os.replace(self._partial, self._path)


def write_rows(path: Path, row: type[T], rows: Iterable[T], *, weigh: Callable[[T], int] = lambda row: 0) -> int:
    """Write `path`, which appears whole or not at all, and return the number of rows; see `RowWriter`."""
    with RowWriter(path, row, weigh) as writer:
        for one in rows:
            writer.add(one)
    return writer.count


def read_rows(path: Path, row: type[T]) -> Iterator[T]:
    """The rows of a file that `write_rows` wrote; a column that it does not have takes the field's default."""
    with pq.ParquetFile(path) as file:
        names = [field.name for field in fields(row) if field.name in file.schema_arrow.names]  # type: ignore[arg-type]
        lists = {name for name in names if pa.types.is_list(file.schema_arrow.field(name).type)}
        for batch in file.iter_batches(_BATCH_ROWS // 4, columns=names):
            for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                about = dict(zip(names, values, strict=True))
                yield row(**about | {name: tuple(about[name] or ()) for name in lists})
