"""One part of the corpus refined: what was found in its documents becomes edits, and these the curated text."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.progress import Counter
from troth.curate.records import CorrectionRow, Decision, Finding
from troth.curate.refine.apply import apply
from troth.curate.refine.policy import POLICY, corrections
from troth.curate.validate.timelines import with_timelines
from troth.system import CurateTable


def refine_part(part: int, out: Path, settings: CurateTable, weights: Mapping[str, float]) -> None:
    """From `documents` of the stage `duplicates` and `findings` of `validate` and `timelines` to `documents`,
    `corrections`, and the `decisions` on all claims. `weights` are those of publishers whose claims were judged."""
    own = Parts(out, "refine")
    before = Parts(out, "duplicates")
    found = Parts(out, "validate").read(part, "findings", Finding)
    again = before.read(part, "documents", Document)
    timelines = with_findings(again, Parts(out, "timelines").read(part, "findings", Finding))
    decided: set[str] = set()
    with (
        own.writer(part, "documents", Document) as refined,
        own.writer(part, "corrections", CorrectionRow) as made,
        own.writer(part, "decisions", Decision) as decisions,
        Counter(own, part) as counter,
    ):
        documents = counter.documents(before.read(part, "documents", Document))
        for (document, others), (_, timed) in zip(with_findings(documents, found), timelines, strict=True):
            findings = with_timelines(others, timed)
            edits = list(corrections(document, findings, settings))
            done = {edit.occ_id: edit for edit in edits}
            for edit in edits:
                made.add(edit)
            for finding in findings:
                if finding.claim_id not in decided:
                    decided.add(finding.claim_id)
                    decisions.add(_decision(finding, done.get(finding.occ_id), settings))
            weight = weights.get(document.publisher, document.weight) if findings else document.weight
            refined.add(replace(apply(document, edits), weight=weight))
    own.finish(part)


def _decision(found: Finding, edit: CorrectionRow | None, settings: CurateTable) -> Decision:
    return Decision(
        "policy", found.claim_id, edit.kind if edit else "kept", found.stance, found.p_stated, 1 - settings.act_above,
        edit.old if edit else "", edit.new if edit else "", found.stance, found.time, found.nature, POLICY,
    )  # fmt: skip


def with_findings(
    documents: Iterable[Document], findings: Iterable[Finding]
) -> Iterator[tuple[Document, list[Finding]]]:
    """Each document with what was found in it; findings come in the order of the documents, which several may lack.

    Raises ValueError where a finding belongs to none of the documents that follow.
    """
    groups = groupby(findings, key=lambda finding: finding.source_id)
    source, group = next(groups, ("", iter(())))
    for document in documents:
        if document.source == source:
            yield document, list(group)
            source, group = next(groups, ("", iter(())))
        else:
            yield document, []
    if source:
        raise ValueError(f"{source}: has findings, but is not among the documents of its part")
