"""One part of the corpus refined: what was found in its documents becomes edits, and these the curated text."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.progress import Counter
from troth.curate.records import ClaimRow, CorrectionRow, Decision, Finding, TimedFinding
from troth.curate.refine.apply import apply
from troth.curate.refine.forms import REPHRASE, questions, rephrased
from troth.curate.refine.policy import POLICY, corrections
from troth.curate.validate.precedence import with_timelines
from troth.curate.validate.stages import verifiers_home
from troth.curate.validate.statement import claim_row
from troth.curate.validate.subjects import beside
from troth.curate.validate.verifiers.endpoint import EndpointJudge
from troth.system import CurateTable

_OPEN = "not_enough_evidence"


def refine_part(
    part: int, out: Path, settings: CurateTable, weights: Mapping[str, float], generation: int = 1
) -> None:
    """From `documents` of the stage `duplicates` and `findings` of `validate` and `timelines` to `documents`,
    `corrections`, the `findings` that stand, and the `decisions` on all claims. `weights` are those of publishers whose
    claims were judged; `generation` is that of a model that rephrases. Raises ValueError where rephrasing is asked for
    without an endpoint.
    """
    own = Parts(out, "refine")
    before = Parts(out, "duplicates")
    found = Parts(out, "validate").read(part, "findings", Finding)
    again = before.read(part, "documents", Document)
    timelines = beside(again, Parts(out, "timelines").read(part, "findings", TimedFinding))
    decided: set[str] = set()
    writer = _writer(out, settings) if "rephrased" in settings.forms else None
    with (
        own.writer(part, "documents", Document) as refined,
        own.writer(part, "corrections", CorrectionRow) as made,
        own.writer(part, "decisions", Decision) as decisions,
        own.writer(part, "findings", Finding) as standing,
        Counter(own, part) as counter,
    ):
        documents = counter.documents(before.read(part, "documents", Document))
        for (document, others), (_, timed) in zip(beside(documents, found), timelines, strict=True):
            findings = with_timelines(others, timed)
            for finding in findings:
                standing.add(finding)
            findings = [one for one in findings if not isinstance(one, TimedFinding) or one.stance != _OPEN]
            edits = list(corrections(document, findings, settings))
            done = {edit.occ_id: edit for edit in edits}
            made.add_all(edits)
            for finding in findings:
                if finding.claim_id not in decided:
                    decided.add(finding.claim_id)
                    decisions.add(_decision(finding, done.get(finding.occ_id), settings))
            weight = weights.get(document.publisher, document.weight) if findings else document.weight
            curated = replace(apply(document, edits), weight=weight)
            refined.add(curated)
            if "questions" in settings.forms and (asked := questions(curated, _standing(document, findings, done))):
                refined.add(asked)
            if writer and curated.kind == "prose" and (told := rephrased(curated, writer, generation)):
                refined.add(told)
    own.finish(part)


def _writer(out: Path, settings: CurateTable) -> Callable[[str], str]:
    assert settings.endpoint is not None
    return partial(EndpointJudge(settings.endpoint, verifiers_home(out) / "requests.sqlite").write, REPHRASE)


def _standing(
    document: Document, findings: Iterable[Finding], edits: Mapping[str, CorrectionRow]
) -> Iterator[ClaimRow]:
    """The claims that others confirm and no edit touches."""
    text = document.text.encode()
    changed = [(edit.byte_start, edit.byte_end) for edit in edits.values()]
    for one in findings:
        stands = one.stance == "supported" and one.time != "superseded"
        if stands and not any(one.byte_start < end and start < one.byte_end for start, end in changed):
            sentence = text[one.byte_start : one.byte_end].decode()
            start = len(text[one.byte_start : one.object_start].decode())
            value = text[one.object_start : one.object_end].decode()
            yield claim_row(document, sentence, start, start + len(value), "value")


def _decision(found: Finding, edit: CorrectionRow | None, settings: CurateTable) -> Decision:
    return Decision(
        "policy", found.claim_id, edit.kind if edit else "kept", found.stance, found.p_stated, 1 - settings.act_above,
        edit.old if edit else "", edit.new if edit else "", found.stance, found.time, found.nature, POLICY,
    )  # fmt: skip
