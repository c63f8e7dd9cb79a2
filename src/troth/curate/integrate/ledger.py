"""The ledger: Lance tables to which every generation of curation adds its rows, and which are never rewritten.

A generation is a tag `gen-N` on every table, and stands once `generations` has it too. What a killed run committed is
known by the label of its commits: the same run goes on behind it, another one takes it back first.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.parquet as pq

from troth.curate.integrate.feeds import Feed, batches, fingerprint
from troth.curate.integrate.fresh import first_of_each
from troth.curate.integrate.tables import TABLES, LedgerTable
from troth.curate.records import GenerationRow
from troth.curate.rows import schema

_COMMIT_ROWS, _COMMIT_BYTES = 1_000_000, 1 << 30
"""Rows and bytes of parts after which a commit is made; a killed run loses no more."""
_BATCH, _BATCH_ROWS = "LANCE_DEFAULT_BATCH_SIZE", "256"
"""How many rows Lance reads at once: 8,192 texts, its default, are a hundred megabytes and more."""
GENERATIONS = "generations"
_RUN, _FILES = "troth.run", "troth.files"
_ENGLISH: dict[str, Any] = {"stem": True, "remove_stop_words": True, "ascii_folding": True, "with_position": False}


def write_generation(folder: Path, row: GenerationRow, feeds: Sequence[Feed]) -> None:
    """Add all rows of `feeds` to the ledger in `folder` as generation `row.gen`.

    A generation that stands already is left as it is. Raises ValueError for one older than the newest that stands.
    """
    standing = generations(folder)
    if row.gen in standing:
        return
    if standing and row.gen < standing[-1]:
        raise ValueError(f"{folder}: holds generation {standing[-1]}; generation {row.gen} cannot be added after it")
    folder.mkdir(parents=True, exist_ok=True)
    run = f"{row.gen} {fingerprint(feeds)}"
    for table in TABLES.values():
        _write_table(folder, table, [feed for feed in feeds if feed.table == table.name], row.gen, run, standing)
    for table in TABLES.values():
        _tag(lance.dataset(_path(folder, table.name)), row.gen)
    _tag(_with_row(folder, row), row.gen)
    for table in TABLES.values():
        data = lance.dataset(_path(folder, table.name))
        data.cleanup_old_versions(timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False)


def reject_generation(folder: Path, row: GenerationRow) -> None:
    """Record that a generation was not accepted; nothing else changes. Raises ValueError where `row` says it was."""
    if row.accepted:
        raise ValueError(f"generation {row.gen} is accepted; write it instead")
    folder.mkdir(parents=True, exist_ok=True)
    _with_row(folder, row)


def generations(folder: Path) -> list[int]:
    """The generations that stand, in order."""
    data = _opened(folder, GENERATIONS)
    return sorted(int(tag.removeprefix("gen-")) for tag in data.tags.list()) if data else []


def open_table(folder: Path, name: str, generation: int | None = None) -> Any:
    """A table as a Lance dataset, as of the newest generation that stands or of the one asked for; None where there is
    no ledger or, in a ledger of an earlier version, no such table. Raises ValueError for a generation that it lacks."""
    if name == GENERATIONS:
        return _opened(folder, name)
    standing = generations(folder)
    if generation is not None and generation not in standing:
        known = ", ".join(map(str, standing)) or "none"
        raise ValueError(f"{folder}: no generation {generation}; it holds {known}")
    if not standing or not _opened(folder, name):
        return None
    tag = f"gen-{standing[-1] if generation is None else generation}"
    data = _opened(folder, name)
    return lance.dataset(_path(folder, name), version=tag) if tag in data.tags.list() else None


def read_table(folder: Path, name: str, generation: int | None = None) -> list[dict[str, Any]]:
    """All rows of a table; see `open_table`. None where nothing was written."""
    data = open_table(folder, name, generation)
    return data.to_table().to_pylist() if data else []


def _path(folder: Path, name: str) -> str:
    return str(folder / f"{name}.lance")


def _opened(folder: Path, name: str) -> Any:
    """The newest version of a table; None where nothing was committed, though a killed run may have left files."""
    versions = folder / f"{name}.lance" / "_versions"
    if not versions.is_dir() or not any(file.suffix == ".manifest" for file in versions.iterdir()):
        return None
    return lance.dataset(_path(folder, name))


def _write_table(
    folder: Path, table: LedgerTable, feeds: Sequence[Feed], generation: int, run: str, standing: Sequence[int]
) -> None:
    data, done = _resumed(folder, table.name, run, standing)
    files = [(feed.form, file) for feed in feeds for file in feed.files]
    if data is None and not files:
        data = _commit(folder, table, iter(()), run, 0)
    while done < len(files):
        end = _end(files, done)
        data = _commit(folder, table, _rows(table, files[done:end], generation, data), run, end)
        done = end
    _index(data, table)


def _resumed(folder: Path, name: str, run: str, standing: Sequence[int]) -> tuple[Any, int]:
    """The table and how many of the run's files it holds, after all that another run left behind was taken back."""
    data = _opened(folder, name)
    if data is None:
        return None, 0
    tags = {int(tag.removeprefix("gen-")): tag for tag in data.tags.list()}
    base = max((number for number in tags if number in standing), default=None)
    base_version = 0 if base is None else data.tags.list()[tags[base]]["version"]
    label = _label(data, base_version)
    if label.get(_RUN) == run:
        return data, int(label[_FILES])
    for number, tag in tags.items():
        if number not in standing:
            data.tags.delete(tag)
    if base is None:
        gone = folder / f".{name}.gone"
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(_path(folder, name), gone)
        shutil.rmtree(gone)
        return None, 0
    if data.version > base_version:
        lance.dataset(_path(folder, name), version=base_version).restore()
    return _opened(folder, name), 0


def _label(data: Any, base_version: int) -> dict[str, str]:
    """The label of the last commit of rows above a version; none where that was the last, or was restored."""
    for transaction in data.get_transactions(max(1, data.version - base_version)):
        if transaction is None or isinstance(transaction.operation, lance.LanceOperation.Restore):
            break
        if _RUN in transaction.transaction_properties and transaction.read_version >= base_version:
            return transaction.transaction_properties
    return {}


def _end(files: Sequence[tuple[str, Path]], start: int) -> int:
    """Up to which file one commit goes."""
    rows = size = 0
    for at in range(start, len(files)):
        rows += pq.read_metadata(files[at][1]).num_rows
        size += files[at][1].stat().st_size
        if rows >= _COMMIT_ROWS or size >= _COMMIT_BYTES:
            return at + 1
    return len(files)


def _rows(table: LedgerTable, files: Sequence[tuple[str, Path]], generation: int, data: Any) -> Iterator[Any]:
    """The rows of the files that the table lacks."""

    def read(only: Sequence[str] = ()) -> Iterator[Any]:
        return chain.from_iterable(batches(table, file, form, generation, only) for form, file in files)

    if not table.key:
        yield from read()
        return
    known = data.scanner(columns=list(table.key)).to_batches() if data else ()
    for batch, keep in zip(read(), first_of_each(read(table.key), known), strict=True):
        if keep.any():
            yield batch.filter(pa.array(keep))


def _commit(folder: Path, table: LedgerTable, rows: Iterator[Any], run: str, done: int) -> Any:
    """Add rows in one commit, which holds all of them or does not happen."""
    path = _path(folder, table.name)
    return lance.write_dataset(
        pa.RecordBatchReader.from_batches(table.schema, rows), path,
        mode="append" if _opened(folder, table.name) else "create",
        transaction_properties={_RUN: run, _FILES: str(done)},
    )  # fmt: skip


def _index(data: Any, table: LedgerTable) -> None:
    """Bring the indices up to date: rows are found without one too, but slowly."""
    rows = data.count_rows()
    if not rows:
        return
    indexed = {index.name: index.num_rows_indexed for index in data.describe_indices()}
    with _few_rows_at_once():
        for column in table.index:
            if f"{column}_idx" not in indexed:
                data.create_scalar_index(column, "BTREE")
        for column in table.search:
            if f"{column}_words" not in indexed:
                data.create_scalar_index(column, "INVERTED", name=f"{column}_words", **_ENGLISH)
        if any(count < rows for count in indexed.values()):
            data.optimize.optimize_indices()


@contextmanager
def _few_rows_at_once() -> Iterator[None]:
    """Indices are made of few rows at a time, unless the user has said how many; Lance has no argument for it."""
    given = _BATCH in os.environ
    os.environ.setdefault(_BATCH, _BATCH_ROWS)
    try:
        yield
    finally:
        if not given:
            del os.environ[_BATCH]


def _tag(data: Any, generation: int) -> None:
    tag = f"gen-{generation}"
    if tag in data.tags.list():
        data.tags.update(tag, data.version)
    else:
        data.tags.create(tag, data.version)


def _with_row(folder: Path, row: GenerationRow) -> Any:
    """`generations` with a row added, if it is not the last one there; a killed run may have left one that never came
    to stand."""
    data = _opened(folder, GENERATIONS)
    there = data.to_table().to_pylist() if data else []
    if there and there[-1] == asdict(row):
        return data
    if any(old["accepted"] and old["gen"] == row.gen for old in there):
        data.delete(f"accepted and gen = {row.gen}")
    new = pa.Table.from_pylist([asdict(row)], schema=schema(GenerationRow))
    return lance.write_dataset(new, _path(folder, GENERATIONS), mode="append" if data else "create")
