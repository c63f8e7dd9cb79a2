"""A validation held in memory as the rows of the ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from troth.curate.collect import Drop, Duplicate
from troth.curate.document import Document
from troth.curate.integrate.feeds import Feed, stage_feeds
from troth.curate.parts import Parts
from troth.curate.records import (
    ClaimRow,
    CorrectionRow,
    Decision,
    EvidenceRow,
    Finding,
    OccurrenceRow,
    VerdictRow,
    short_hash,
)
from troth.curate.refine.correct import Correction
from troth.curate.validate.evidence import Witness
from troth.curate.validate.validate import Verdict
from troth.curate.validate.values import same

_STAGE = "judged"


def judged_feeds(
    out: Path, generation: int, documents: Sequence[Document], drops: Sequence[tuple[Document, Drop]],
    duplicates: Sequence[Duplicate], verdicts: Sequence[Verdict], corrections: Sequence[Correction],
) -> list[Feed]:  # fmt: skip
    """Write everything as the one part of a stage of its own in `out`, and give what feeds the ledger."""
    parts = Parts(out, _STAGE)
    originals = {document.source: document for document, _ in drops}
    whole = [document for document in documents if document.source not in originals]
    parts.write(0, "documents", Document, [*originals.values(), *whole])
    parts.write(1, "documents", Document, (document for document in documents if document.source in originals))
    parts.write(0, "decisions", Decision, (_dropped(document, drop) for document, drop in drops))
    parts.write(1, "decisions", Decision, map(_duplicate, duplicates))
    parts.write(0, "claims", ClaimRow, map(_claim, verdicts))
    parts.write(0, "occurrences", OccurrenceRow, map(_occurrence, verdicts))
    parts.write(0, "evidence", EvidenceRow, (_evidence(v, w) for v in verdicts for w in v.witnesses))
    parts.write(0, "verdicts", VerdictRow, (row for v in verdicts for row in _verdicts(v, generation)))
    parts.write(0, "findings", Finding, map(_finding, verdicts))
    parts.write(0, "corrections", CorrectionRow, map(_correction, corrections))
    for part in (0, 1):
        parts.finish(part)
    forms = {0: "collected", 1: "cleaned"}
    texts = [Feed("documents", (parts.file(part, "documents"),), form) for part, form in forms.items()]
    return [*texts, *stage_feeds(out, (_STAGE,))]


def _dropped(document: Document, drop: Drop) -> Decision:
    return Decision("filter", document.source, "dropped", drop.rule, drop.value, drop.limit, drop.text)


def _duplicate(one: Duplicate) -> Decision:
    return Decision("duplicates", one.source, f"{one.kind} duplicate", f"repeats {one.of}", one.score)


def _claim(verdict: Verdict) -> ClaimRow:
    claim = verdict.claim
    return ClaimRow(
        claim.claim_id, claim.sentence.text, claim.sentence.document.title, "", claim.value.text, claim.value.kind,
        "", "", "", "fact", True,
    )  # fmt: skip


def _occurrence(verdict: Verdict) -> OccurrenceRow:
    sentence, value = verdict.claim.sentence, verdict.claim.value
    start = len(sentence.document.text[: sentence.start].encode())
    at = start + len(sentence.text[: value.start].encode())
    return OccurrenceRow(
        short_hash(sentence.document.source, str(sentence.start), verdict.claim.claim_id), sentence.document.sha,
        sentence.document.source, start, start + len(sentence.text.encode()), at, at + len(value.text.encode()),
        verdict.claim.claim_id,
    )  # fmt: skip


def _evidence(verdict: Verdict, witness: Witness) -> EvidenceRow:
    document, claim = witness.sentence.document, verdict.claim
    place = f"{document.source}:{witness.sentence.start}:{witness.value.start}"
    return EvidenceRow(
        short_hash(claim.claim_id, place), claim.claim_id, document.sha, document.source, document.publisher,
        document.published, 0, document.ancestors, witness.sentence.text, witness.value.text,
        "supported" if same(witness.value, claim.value) else "refuted", witness.likeness,
    )  # fmt: skip


def _verdicts(verdict: Verdict, generation: int) -> Iterator[VerdictRow]:
    claim_id = verdict.claim.claim_id
    yield VerdictRow(
        claim_id, "judge", "", "", "", verdict.stance, verdict.p_best, verdict.p_stated, generation,
        verdict.best.text or "",
    )  # fmt: skip
    for answer, score in verdict.examined:
        # A log-probability that the judge alone can make something of.
        yield VerdictRow(
            claim_id, "examiner", "", "", "", "not_enough_evidence", score, verdict.p_stated, generation, answer
        )


def _finding(verdict: Verdict) -> Finding:
    return Finding(
        **asdict(_occurrence(verdict)), stance=verdict.stance, time="undated", nature="fact",
        p_stated=verdict.p_stated, answer=verdict.best.text or "", p_answer=verdict.p_best, verdict="judge",
    )  # fmt: skip


def _correction(correction: Correction) -> CorrectionRow:
    place = _occurrence(correction.verdict)
    return CorrectionRow(
        place.occ_id, place.claim_id, place.source_id, place.doc_sha, place.byte_start, place.byte_end,
        correction.old, correction.new, correction.kind, "judge", correction.verdict.p_stated, correction.reverified_by,
    )  # fmt: skip
