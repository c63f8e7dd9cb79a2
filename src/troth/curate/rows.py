"""Rows of a dataclass in Parquet, written and read as a stream, so that memory stays flat however many there are."""

import os
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, fields
from itertools import pairwise, repeat
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

_BATCH_ROWS, _BATCH_BYTES = 1024, 2 << 20
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


def write_rows(path: Path, row: type[T], rows: Iterable[T], *, weigh: Callable[[T], int] = lambda row: 0) -> int:
    """Write `path`, which appears whole or not at all, and return the number of rows.

    `weigh` gives a row's bytes where rows are large, so that no batch holds more than a few megabytes.
    """
    with RowWriter(path, row, weigh=weigh) as writer:
        writer.add_all(rows)
    return writer.count


def write_whole(path: Path, text: str) -> None:
    """Write a small text file, which appears whole or not at all, in a folder that is made where it lacks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


class RowWriter(Generic[T]):
    """Writes rows as they come, for a stage that fills several tables at once; see `write_rows`.

    `path` appears when the `with` block ends well; `count` is how many rows came.
    """

    def __init__(self, path: Path, row: type[T], *, weigh: Callable[[T], int] = lambda row: 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._partial, self._weigh = path, path.with_name(f"{path.name}.partial"), weigh
        self._columns = [attrgetter(field.name) for field in fields(row)]  # type: ignore[arg-type]
        self._form = schema(row)
        self._writer = pq.ParquetWriter(self._partial, self._form, compression="zstd")
        self._batch: list[T] = []
        self._size = 0
        self.count = 0

    def add(self, row: T) -> None:
        """Write one more row, sooner or later."""
        self._batch.append(row)
        self._size += self._weigh(row)
        self.count += 1
        if len(self._batch) >= _BATCH_ROWS or self._size > _BATCH_BYTES:
            self._flush()

    def add_all(self, rows: Iterable[T]) -> None:
        """Write several more."""
        for row in rows:
            self.add(row)

    def _flush(self) -> None:
        if self._batch:
            columns = zip(self._columns, self._form.types, strict=True)
            arrays = [pa.array(list(map(column, self._batch)), kind) for column, kind in columns]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._form))
        self._batch, self._size = [], 0

    def __enter__(self) -> "RowWriter[T]":
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        if error is None:
            self._flush()
        self._writer.close()
        if error is None:
            os.replace(self._partial, self._path)
        else:
            self._partial.unlink()


def read_rows(path: Path, row: type[T]) -> Iterator[T]:
    """The rows of a file that `write_rows` wrote; a column that it does not have takes the field's default."""
    with pq.ParquetFile(path) as file:
        yield from rows_of(file, row)


def rows_of(file: pq.ParquetFile, row: type[T], groups: list[int] | None = None) -> Iterator[T]:
    """The same for a file that is open, or for some of its row groups."""
    wanted, there = fields(row), set(file.schema_arrow.names)  # type: ignore[arg-type]
    names = [field.name for field in wanted if field.name in there]
    for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=names):
        yield from map(
            row,
            *(
                _values(batch.column(one.name)) if one.name in there or one.default is MISSING else repeat(one.default)
                for one in wanted
            ),
        )


def _values(column: pa.Array) -> list[Any]:
    """What a column holds, lists as tuples, empty ones where there is none."""
    if not pa.types.is_list(column.type):
        return column.to_pylist()
    ends = column.offsets.to_pylist()
    flat = column.flatten().to_pylist()
    return [tuple(flat[first - ends[0] : last - ends[0]]) for first, last in pairwise(ends)]
