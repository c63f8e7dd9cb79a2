"""Curation from end to end: junk and duplicates go, claims are judged, wrong ones mended, documents weighed, everything
is recorded."""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from troth.curate.document import Document
from troth.curate.duplicates.stage import duplicates_part, find_duplicates
from troth.curate.filter.fit import fit_quality
from troth.curate.filter.stage import filter_part
from troth.curate.integrate.corpus import write_documents
from troth.curate.integrate.ledger import write_ledger
from troth.curate.integrate.weight import weigh_documents
from troth.curate.parts import Parts
from troth.curate.records import Decision
from troth.curate.refine.correct import apply, propose
from troth.curate.validate.examine import Examiner
from troth.curate.validate.validate import validate
from troth.system import CurateTable


@dataclass(frozen=True)
class Cleaned:
    """Documents without junk and duplicates, and why the rest went."""

    documents: list[Document]
    decisions: list[Decision]


def clean(documents: list[Document], settings: CurateTable) -> Cleaned:
    """Run the stages `filter` and `duplicates` on one part that holds all documents."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        collected = Parts(out, "collect")
        collected.write(0, "documents", Document, documents)
        collected.finish(0)
        fit_quality([0], out, settings)
        filter_part(0, out, settings)
        find_duplicates([0], out, settings)
        duplicates_part(0, out, settings)
        filtered, left = Parts(out, "filter"), Parts(out, "duplicates")
        decisions = [*filtered.read(0, "decisions", Decision), *left.read(0, "decisions", Decision)]
        return Cleaned(list(left.read(0, "documents", Document)), decisions)


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
        "filtered": dict(Counter(one.rule for one in cleaned.decisions if one.stage == "filter")),
        "duplicates": sum(one.stage == "duplicates" and one.label == "dropped" for one in cleaned.decisions),
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
    write_ledger(
        out / "ledger", generation, documents, cleaned.decisions, validation, corrections,
        {key: float(value) for key, value in validation.planted.items()},
    )  # fmt: skip
    partial = done.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=2))
    os.replace(partial, done)
    return report
