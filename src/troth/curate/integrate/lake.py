"""Curated documents and the ledger's tables in the forms that other tools read: Parquet, Delta Lake and Iceberg.

Everything goes through as a stream of record batches.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from troth.curate.integrate.figures import document_files
from troth.curate.integrate.ledger import open_table
from troth.curate.integrate.tables import TABLES

FORMS = "parquet", "delta", "iceberg"
_FILE_ROWS, _BATCH_ROWS = 1_000_000, 4096
_GROUP_BYTES = 32 << 20
"""Bytes of a row group of Parquet, and of what Iceberg, which takes whole tables, is given at a time."""


def export_tables(
    out: Path, form: str, to: Path, progress: Callable[[str], None] = lambda text: None
) -> dict[str, int]:
    """Write the curation in `out` to the new folder `to`, and return the rows of each table.

    `curated` are the documents to train on, the others the ledger's tables, of which `documents` has the originals.
    Parquet gives a folder of files for each table, Delta a table a folder; Iceberg has its tables in the namespace
    `troth` of the SQLite catalog `catalog.db`. Raises ValueError where `to` exists, or where a package is missing.
    """
    if form not in FORMS:
        raise ValueError(f"{form}: unknown form; known are {', '.join(FORMS)}")
    if to.exists():
        raise ValueError(f"{to}: exists already; name a new folder")
    write = {"parquet": _parquet, "delta": _delta, "iceberg": _iceberg}[form](to)
    rows: dict[str, int] = {}
    try:
        to.mkdir(parents=True)
        for name, reader in _tables(out):
            progress(f"{form}: {name}")
            rows[name] = 0
            write(name, pa.RecordBatchReader.from_batches(reader.schema, _counted(reader, rows, name)))
    except BaseException:
        shutil.rmtree(to, ignore_errors=True)
        raise
    return rows


def _tables(out: Path) -> Iterator[tuple[str, Any]]:
    files = [str(file) for file in document_files(out)]
    yield "curated", pads.dataset(files).scanner(batch_size=_BATCH_ROWS, batch_readahead=1).to_reader()
    for name in (*TABLES, "generations"):
        data = open_table(out / "ledger", name)
        if data is not None:
            yield name, data.scanner(batch_size=_BATCH_ROWS, batch_readahead=1).to_reader()


def _counted(reader: Any, rows: dict[str, int], name: str) -> Iterator[Any]:
    for batch in reader:
        rows[name] += batch.num_rows
        yield batch


Write = Callable[[str, Any], None]


def _parquet(to: Path) -> Write:
    def write(name: str, reader: Any) -> None:
        folder = to / name
        folder.mkdir()
        number = 0
        groups = _runs(reader)
        group = next(groups, reader.schema.empty_table())
        while group is not None:
            with pq.ParquetWriter(folder / f"{number:05d}.parquet", reader.schema, compression="zstd") as writer:
                room = _FILE_ROWS
                while group is not None and room > 0:
                    writer.write_table(group)
                    room -= group.num_rows
                    group = next(groups, None)
            number += 1

    return write


def _delta(to: Path) -> Write:
    try:
        from deltalake import write_deltalake
    except ImportError as error:
        raise ValueError("--delta: needs the package deltalake; pip install 'troth[lake]'") from error

    return lambda name, reader: write_deltalake(str(to / name), reader, mode="error")


def _iceberg(to: Path) -> Write:
    try:
        from pyiceberg.catalog.sql import SqlCatalog
    except ImportError as error:
        raise ValueError("--iceberg: needs the package pyiceberg; pip install 'troth[lake]'") from error

    def write(name: str, reader: Any) -> None:
        place = to.resolve()
        catalog = SqlCatalog("troth", uri=f"sqlite:///{place}/catalog.db", warehouse=place.as_uri())
        catalog.create_namespace_if_not_exists("troth")
        table = catalog.create_table(f"troth.{name}", schema=reader.schema)
        with table.transaction() as change:
            for several in _runs(reader):
                change.append(several)
        catalog.close()

    return write


def _runs(reader: Any) -> Iterator[Any]:
    """The rows in tables of tens of megabytes."""
    waiting: list[Any] = []
    size = 0
    for batch in reader:
        waiting.append(batch)
        size += batch.nbytes
        if size >= _GROUP_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting, size = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)
