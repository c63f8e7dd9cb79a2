"""What a curation took in, dropped, changed and gives out, counted over its parts as a stream."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from troth.curate.integrate.feeds import stage_feeds
from troth.curate.parts import Parts

_BATCH_ROWS = 4096


@dataclass
class Size:
    """Documents, the bytes of their UTF-8 text, and bytes times how often training reads the document."""

    documents: int = 0
    bytes: int = 0
    weighted: float = 0.0


@dataclass
class Figures:
    """`by` gives for `collection`, `licence`, `language`, `kind` and `publisher` the size of each of its values among
    the curated documents; `decisions` are counted by stage, label and rule, `findings` by stance, time and nature.
    `judged` and `refuted` count findings by collection (what is superseded was right once), `verdicts` by verifier and
    stance."""

    total: Size = field(default_factory=Size)
    collected: Size = field(default_factory=Size)
    by: dict[str, dict[str, Size]] = field(default_factory=dict)
    rejected: int = 0
    decisions: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    corrections: Counter[str] = field(default_factory=Counter)
    findings: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    claims: int = 0
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    refuted: Counter[str] = field(default_factory=Counter)


GROUPS = "collection", "licence", "language", "kind", "publisher"


def document_files(out: Path) -> list[Path]:
    """The curated documents of `out`, in order. Raises ValueError where there are none."""
    files = sorted((out / "documents").glob("*.parquet"))
    if not files:
        raise ValueError(f"{out}: no curated documents (documents/*.parquet)")
    return files


def count(out: Path) -> Figures:
    """All figures of the curation in `out`. Raises ValueError where it has no curated documents."""
    figures = Figures(by={name: {} for name in GROUPS})
    for batch in _batches(document_files(out), ("text", "weight", *GROUPS)):
        _add(figures.total, batch)
        for name in GROUPS:
            if name in batch.schema.names:
                for value in pc.unique(batch.column(name)).to_pylist():
                    part = batch.filter(pc.equal(batch.column(name), value))
                    _add(figures.by[name].setdefault(value, Size()), part)
    feeds = stage_feeds(out)

    def of(name: str) -> list[Path]:
        return [file for feed in feeds if feed.table == name and feed.form != "cleaned" for file in feed.files]

    for batch in _batches(of("documents"), ("text",)):
        _add(figures.collected, batch)
    figures.rejected, figures.claims = (
        sum(pq.read_metadata(file).num_rows for file in of(name)) for name in ("rejected", "claims")
    )
    _tally(figures.decisions, of("decisions"), ("stage", "label", "rule"))
    _tally(figures.findings, of("findings"), ("stance", "time", "nature"))
    _tally(figures.verdicts, of("verdicts"), ("verifier", "stance"))
    for batch in _batches(of("corrections"), ("kind",)):
        figures.corrections.update(batch.column("kind").to_pylist())
    for file in of("findings"):
        _judge(figures, file, Parts(out, "duplicates").folder / file.name.replace(".findings.", ".documents."))
    return figures


def _batches(files: Iterable[Path], columns: Sequence[str]) -> Iterator[Any]:
    for file in files:
        with pq.ParquetFile(file) as parquet:
            own = [name for name in columns if name in parquet.schema_arrow.names]
            yield from parquet.iter_batches(_BATCH_ROWS, columns=own)


def _add(size: Size, batch: Any) -> None:
    lengths = pc.binary_length(batch.column("text").cast(pa.binary()))
    size.documents += len(batch)
    size.bytes += pc.sum(lengths).as_py() or 0
    if "weight" in batch.schema.names:
        size.weighted += pc.sum(pc.multiply(pc.cast(lengths, pa.float64()), batch.column("weight"))).as_py() or 0.0


def _judge(figures: Figures, findings: Path, documents: Path) -> None:
    """Count the findings of a part, whose documents are those of the same part."""
    collection: dict[str, str] = {}
    for batch in _batches([documents] if documents.exists() else [], ("source", "collection")):
        collection.update(zip(batch.column("source").to_pylist(), batch.column("collection").to_pylist(), strict=True))
    for batch in _batches([findings], ("source_id", "stance", "time")):
        names = [collection.get(source, "") for source in batch.column("source_id").to_pylist()]
        figures.judged.update(names)
        axes = zip(batch.column("stance").to_pylist(), batch.column("time").to_pylist(), strict=True)
        wrong = (stance == "refuted" and time != "superseded" for stance, time in axes)
        figures.refuted.update(name for name, is_wrong in zip(names, wrong, strict=True) if is_wrong)


def _tally(counter: Counter[Any], files: Iterable[Path], columns: Sequence[str]) -> None:
    for batch in _batches(files, columns):
        counter.update(zip(*(batch.column(name).to_pylist() for name in columns), strict=True))
