"""Parquet: one document a row from its column of text, or a table whose rows become lines of text."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from troth.curate.collect.reader import Origin, Rejected
from troth.curate.collect.records import KNOWN, from_record
from troth.curate.collect.tables import table_documents
from troth.curate.document import Document
from troth.curate.rows import rows_of, schema

_ROWS = 256
_FEWEST = 4
# A text that comes again is stored once, and takes its size in memory for each of the rows read together.
_TOGETHER = 256 << 20


def read_parquet(stream: io.BufferedReader, origin: Origin) -> Iterator[Document | Rejected]:
    """Rows in their order, a row group's column at a time in memory. Names of columns count in any case; raises
    ValueError for a broken file and for a column of text that holds none. Documents that Troth wrote come back as they
    were."""
    try:
        with pq.ParquetFile(stream) as file:
            names = file.schema_arrow.names
            groups = list(range(origin.start, origin.end or file.num_row_groups))
            if schema(Document).equals(file.schema_arrow):
                for number, one in enumerate(rows_of(file, Document, groups), _rows_before(file, origin)):
                    yield one if one.text and one.text.strip() else Rejected(origin.record(number), "no text")
                return
            column = origin.text_column
            known = {name.lower(): name for name in reversed(names) if name.lower() in KNOWN}
            if found := next((name for name in names if name.lower() == column.lower()), ""):
                known[column] = found
                kind = file.schema_arrow.field(found).type
                kind = kind.value_type if pa.types.is_dictionary(kind) else kind
                if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
                    raise ValueError(f"the column {found} holds {kind}, not text")
                yield from _documents(file, groups, known, origin)
            else:
                yield from table_documents(_rows(file, groups), names, origin, {"": "utf-8"})
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"broken Parquet: {error}") from error


def _documents(
    file: pq.ParquetFile, groups: list[int], known: dict[str, str], origin: Origin
) -> Iterator[Document | Rejected]:
    number = _rows_before(file, origin)
    for batch in _batches(file, groups, list(known.values())):
        columns = [batch.column(name).to_pylist() for name in known.values()]
        for row in zip(*columns, strict=True):
            where = origin.record(number)
            number += 1
            try:
                yield from_record(dict(zip(known, row, strict=True)), origin, where, "utf-8")
            except ValueError as error:
                yield Rejected(where, str(error))


def row_group_bytes(stream: Any) -> list[int]:
    """The packed size of each row group of an open Parquet file; none where it is broken."""
    try:
        about = pq.read_metadata(stream)
    except (pa.ArrowException, OSError):
        return []
    groups = (about.row_group(group) for group in range(about.num_row_groups))
    return [sum(one.column(at).total_compressed_size for at in range(one.num_columns)) for one in groups]


def _rows_before(file: pq.ParquetFile, origin: Origin) -> int:
    return sum(file.metadata.row_group(group).num_rows for group in range(origin.start))


def _rows(file: pq.ParquetFile, groups: list[int]) -> Iterator[Sequence[Any]]:
    for batch in _batches(file, groups, None):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _batches(file: pq.ParquetFile, groups: list[int], columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    """Fewer rows at a time where a row group's column, and so a value of it, may be large."""
    for group in groups:
        about = file.metadata.row_group(group)
        largest = max((about.column(at).total_uncompressed_size for at in range(about.num_columns)), default=0)
        rows = min(_ROWS, max(_FEWEST, _TOGETHER // (largest + 1)))
        yield from file.iter_batches(rows, row_groups=[group], columns=columns)
