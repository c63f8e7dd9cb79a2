"""What stages wrote, as a stream of the ledger's rows: Parquet parts in, Arrow batches out, never more than a few
megabytes at a time."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from troth.curate.integrate.tables import TABLES, LedgerTable

_STAGES = "collect", "filter", "duplicates", "cases", "validate", "timelines", "refine"
_FORMS = {"collect": "collected", "duplicates": "cleaned"}
"""Which stages' documents the ledger keeps. What the filters left alone is known by its hash and kept once."""
_RENAMED = {"source_id": "source", "published_at": "published", "retrieved_at": "retrieved"}
_BATCH_ROWS = 4096


@dataclass(frozen=True)
class Feed:
    """Part files of one kind, in order, for one table of the ledger; `form` is that of documents."""

    table: str
    files: tuple[Path, ...]
    form: str = ""


def stage_feeds(out: Path) -> list[Feed]:
    """All finished parts of the curation in `out`: a part's table `claims` feeds the ledger's `claims`, and so on."""
    feeds: list[Feed] = []
    for stage in _STAGES:
        folder = out / "work" / stage
        parts = sorted(int(mark.stem) for mark in folder.glob("*.done"))
        for name in TABLES:
            if (name == "documents" and stage not in _FORMS) or (name == "findings" and stage != "refine"):
                continue  # of findings, those that stand
            files = (folder / f"{part:05d}.{name}.parquet" for part in parts)
            form = _FORMS[stage] if name == "documents" else ""
            feeds.append(Feed(name, tuple(file for file in files if file.exists()), form))
    return [feed for feed in feeds if feed.files]


def fingerprint(feeds: Sequence[Feed]) -> str:
    """16 hexadecimal digits that change where the files do, by their names, sizes and numbers of rows."""
    about = [
        f"{feed.table} {feed.form} {file.name} {file.stat().st_size} {pq.read_metadata(file).num_rows}"
        for feed in feeds
        for file in feed.files
    ]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]


def batches(table: LedgerTable, file: Path, form: str, generation: int, only: Sequence[str] = ()) -> Iterator[Any]:
    """The rows of a part as record batches of the table's schema, or of its columns `only`, in that order.

    Columns that the file lacks take the default of the row's field.
    """
    made = pa.schema([table.schema.field(name) for name in (only or table.schema.names)])
    renamed = _RENAMED if table.name == "documents" else {}
    defaults = {field.name: None if field.default is MISSING else field.default for field in fields(table.row)}
    given = defaults | {"generation": generation, "form": form}
    with pq.ParquetFile(file) as parquet:
        there = set(parquet.schema_arrow.names)
        needed = {renamed.get(name, name) for name in made.names} | ({"text"} if renamed else set())
        # A row group is bounded in bytes by its writer, and so is a batch that never spans two of them.
        for group in range(parquet.num_row_groups):
            for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=sorted(needed & there)):
                own = {name: batch.column(name) for name in batch.schema.names}
                if renamed:
                    own["doc_sha"] = _shas(own["text"])
                columns = [
                    own[name].cast(kind) if (name := renamed.get(column, column)) in own
                    else pa.array([given.get(column)] * len(batch), kind)
                    for column, kind in zip(made.names, made.types, strict=True)
                ]  # fmt: skip
                yield pa.RecordBatch.from_arrays(columns, schema=made)


def _shas(texts: Any) -> Any:
    """`Document.sha` of each text."""
    return pa.array([hashlib.sha256(text.as_buffer()).hexdigest()[:16] for text in texts], pa.string())
