"""Curation from end to end: junk and duplicates go, claims are judged, wrong ones mended, documents weighed, everything
is recorded."""

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from troth.curate.collect import Drop, Duplicate, drop_duplicates, drop_junk
from troth.curate.document import Document
from troth.curate.integrate.corpus import write_documents
from troth.curate.integrate.judged import judged_feeds
from troth.curate.integrate.ledger import write_generation
from troth.curate.integrate.weight import weigh_documents
from troth.curate.records import GenerationRow
from troth.curate.refine.correct import apply, propose
from troth.curate.validate.examine import Examiner
from troth.curate.validate.validate import validate
from troth.system import CurateTable


@dataclass(frozen=True)
class Cleaned:
    """Documents without junk and duplicates; what went is in the ledger's terms."""

    documents: list[Document]
    drops: list[tuple[Document, Drop]]
    duplicates: list[Duplicate]


def clean(documents: list[Document], settings: CurateTable) -> Cleaned:
    """Apply the quality rules, then remove duplicates."""
    kept: list[Document] = []
    drops: list[tuple[Document, Drop]] = []
    for document in documents:
        better, found = drop_junk(document, settings.min_words)
        drops += [(document, drop) for drop in found]
        if better is not None:
            kept.append(better)
    kept, duplicates = drop_duplicates(kept, settings.near_duplicate)
    return Cleaned(kept, drops, duplicates)


def judged_documents(documents: list[Document]) -> list[Document]:
    """Prose of the collections in which at least two publishers speak; elsewhere nobody could contradict or confirm."""
    voices: dict[str, set[str]] = {}
    for document in documents:
        voices.setdefault(document.collection, set()).add(document.publisher)
    return [d for d in documents if len(voices[d.collection]) > 1 and d.kind == "prose"]


def curate(
    cleaned: Cleaned, examiner: Examiner | None, settings: CurateTable, out: Path, *, generation: int, seed: int,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, object]:  # fmt: skip
    """Judge and mend cleaned documents and write `out`: documents.parquet, ledger/, report.json (written last).

    Returns the report. A finished `out` is returned as it is.
    """
    done = out / "report.json"
    if done.exists():
        return json.loads(done.read_text())
    judged = judged_documents(cleaned.documents)
    validation = validate(judged, examiner, settings, seed, progress)
    corrections = propose(validation.verdicts, settings.act_above)
    edited = iter(weigh_documents(apply(judged, corrections), validation.publisher_error))
    is_judged = set(judged)
    documents = [next(edited) if document in is_judged else document for document in cleaned.documents]
    report = {
        "documents": len(documents),
        "dropped": dict(Counter(drop.rule for _, drop in cleaned.drops)),
        "duplicates": len(cleaned.duplicates),
        "claims": validation.claims,
        "claims_without_evidence": validation.unchecked,
        "stances": dict(Counter(verdict.stance for verdict in validation.verdicts)),
        "corrections": dict(Counter(correction.kind for correction in corrections)),
        "planted_errors": validation.planted,
        "judge_weights": validation.weights,
        "estimated_error_by_publisher": validation.publisher_error,
        "weight_by_publisher": {d.publisher: d.weight for d in documents if d.publisher in validation.publisher_error},
    }
    progress(f"{len(corrections)} corrections: writing corpus and ledger")
    write_documents(documents, out / "documents.parquet")
    feeds = judged_feeds(
        out, generation, cleaned.documents, cleaned.drops, cleaned.duplicates, validation.verdicts, corrections
    )
    metrics = json.dumps({key: float(value) for key, value in validation.planted.items()}, sort_keys=True)
    write_generation(out / "ledger", GenerationRow(generation, "", "", metrics, accepted=True), feeds)
    partial = done.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=2))
    os.replace(partial, done)
    return report
