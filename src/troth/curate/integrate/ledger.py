"""The ledger in Lance tables, from documents and claims to evidence, verdicts, decisions and corrections.

Every run adds a version and tags it with its generation, so that earlier ones stay readable.
"""

import hashlib
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from troth.curate.document import Document
from troth.curate.records import Decision
from troth.curate.refine.correct import Correction
from troth.curate.validate.evidence import Witness
from troth.curate.validate.validate import Validation, Verdict

POLICY = "1"


def write_ledger(
    folder: Path, generation: int, documents: list[Document], decisions: list[Decision],
    validation: Validation, corrections: list[Correction], metrics: dict[str, float],
) -> None:  # fmt: skip
    """Write all tables as one generation, tagged `gen-N`."""
    edited = {correction.verdict.claim.claim_id: correction.kind for correction in corrections}
    tables: dict[str, list[dict[str, Any]]] = {
        "documents": [_document(document) for document in documents],
        "decisions": [
            *({"subject": d.subject, "label": d.label, "rule": d.rule, "value": d.value, "limit": d.limit,
               "text": d.text} for d in decisions),
            *({"subject": v.claim.claim_id, "label": edited.get(v.claim.claim_id, "kept"), "rule": v.stance,
               "value": v.p_stated, "limit": 0.0, "text": v.claim.value.text} for v in validation.verdicts),
        ],
        "occurrences": [_occurrence(verdict) for verdict in validation.verdicts],
        "claims": [_claim(verdict) for verdict in validation.verdicts],
        "evidence": [_evidence(v, w) for v in validation.verdicts for w in v.witnesses],
        "verdicts": [row for verdict in validation.verdicts for row in _verdicts(verdict, generation)],
        "corrections": [_correction(correction) for correction in corrections],
        "generations": [{"gen": generation, "policy": POLICY, **metrics}],
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        if not rows:
            continue
        path = folder / f"{name}.lance"
        mode = "overwrite" if path.exists() else "create"
        data = lance.write_dataset(pa.Table.from_pylist(rows), str(path), mode=mode)
        tag = f"gen-{generation}"
        if tag in data.tags.list():
            data.tags.update(tag, data.version)
        else:
            data.tags.create(tag, data.version)


def read_table(folder: Path, name: str, generation: int | None = None) -> list[dict[str, Any]]:
    """Rows of one table, of the newest or of a tagged generation; none where nothing was written."""
    path = folder / f"{name}.lance"
    if not path.exists():
        return []
    version = None if generation is None else f"gen-{generation}"
    return lance.dataset(str(path), version=version).to_table().to_pylist()


def _document(document: Document) -> dict[str, Any]:
    return {
        "doc_sha": document.sha, "source_id": document.source, "collection": document.collection,
        "title": document.title, "publisher": document.publisher, "published_at": document.published,
        "licence": document.licence, "weight": document.weight, "text": document.text,
    }  # fmt: skip


def _occurrence(verdict: Verdict) -> dict[str, Any]:
    sentence = verdict.claim.sentence
    before = sentence.document.text[: sentence.start].encode()
    return {
        "occ_id": occurrence_id(verdict), "doc_sha": sentence.document.sha, "source_id": sentence.document.source,
        "byte_start": len(before), "byte_end": len(before) + len(sentence.text.encode()),
        "claim_id": verdict.claim.claim_id,
    }  # fmt: skip


def occurrence_id(verdict: Verdict) -> str:
    """One claim at one place of one document."""
    sentence = verdict.claim.sentence
    place = f"{sentence.document.source}:{sentence.start}:{verdict.claim.claim_id}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def _claim(verdict: Verdict) -> dict[str, Any]:
    claim = verdict.claim
    return {
        "claim_id": claim.claim_id, "text": claim.sentence.text, "object": claim.value.text, "kind": claim.value.kind,
        "checkworthy": True,
    }  # fmt: skip


def _evidence(verdict: Verdict, witness: Witness) -> dict[str, Any]:
    document = witness.sentence.document
    return {
        "claim_id": verdict.claim.claim_id, "doc_sha": document.sha, "source_id": document.source,
        "span": witness.sentence.text, "states": witness.value.text, "likeness": witness.likeness,
        "publisher": document.publisher, "published_at": document.published,
    }  # fmt: skip


def _verdicts(verdict: Verdict, generation: int) -> list[dict[str, Any]]:
    common = {"claim_id": verdict.claim.claim_id, "generation": generation}
    rows = [{
        **common, "verifier": "judge", "answer": verdict.best.text or "", "stance": verdict.stance,
        "raw_score": verdict.p_best, "p_calibrated": verdict.p_stated,
    }]  # fmt: skip
    rows += [
        {**common, "verifier": "examiner", "answer": answer, "stance": "", "raw_score": score, "p_calibrated": None}
        for answer, score in verdict.examined
    ]
    return rows


def _correction(correction: Correction) -> dict[str, Any]:
    return {
        "occ_id": occurrence_id(correction.verdict), "claim_id": correction.verdict.claim.claim_id,
        "source_id": correction.sentence.document.source, "old": correction.old, "new": correction.new,
        "kind": correction.kind, "p_stated": correction.verdict.p_stated, "reverified_by": correction.reverified_by,
    }  # fmt: skip
