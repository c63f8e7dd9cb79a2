"""Documents as one Parquet file, the form in which they are trained on and shared."""

import os
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from troth.curate.document import Document
from troth.curate.rows import schema

_SCHEMA = schema(Document)

_HEAVIEST = 100


def write_documents(documents: list[Document], path: Path) -> None:
    """Write `path`, which appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    table = pa.Table.from_pylist([asdict(document) for document in documents], schema=_SCHEMA)
    pq.write_table(table, partial, compression="zstd")
    os.replace(partial, path)


def read_documents(path: Path) -> list[Document]:
    """Documents of a Parquet file with at least `text`. Raises ValueError naming the file, column or row."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path}: no readable Parquet file ({error})") from error
    if "text" not in table.column_names:
        raise ValueError(f"{path}: no column 'text'; it has {', '.join(table.column_names)}")
    known = [name for name in _SCHEMA.names if name in table.column_names]
    defaults = {"source": str(path), "collection": "documents"}
    rows = table.select(known).to_pylist()
    for number, row in enumerate(rows):
        row["ancestors"] = tuple(row.get("ancestors") or ())
        weight = row.get("weight")
        if weight is None:
            row["weight"] = 1.0
        elif not (isinstance(weight, int | float) and 0 < weight <= _HEAVIEST):
            raise ValueError(f"{path}, row {number}: weight={weight!r}; expected a number above 0, at most {_HEAVIEST}")
    return [Document(**(defaults | {key: value for key, value in row.items() if value is not None})) for row in rows]
