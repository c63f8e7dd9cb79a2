"""The stage `timelines`: what publishers that repeat their wordings say of the same facts over time.

It looks at a whole collection at once and holds its text in memory, so very large collections go without.
"""

from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.records import ClaimRow, EvidenceRow, Finding, OccurrenceRow, VerdictRow, short_hash
from troth.curate.validate.slots import Statement, TimedVerdict, judge_documents
from troth.curate.validate.slots.readings import agree, read
from troth.curate.validate.stages import cleaned_documents, judged_documents, repeating_documents
from troth.curate.validate.statement import claim_row
from troth.curate.validate.subjects import SubjectRow
from troth.system import CurateTable

STAGE = "timelines"
VERIFIER = "timeline"
_VERSION = "1"
_MOST_BYTES = 512 << 20
_SHOWN = 8
"""Witnesses that go into the ledger, at most."""
_Text = tuple[str, str]
"""A source and which text of it: what stayed of a document, or what went because another publisher said it first."""


def timelines(
    out: Path, parts: int, settings: CurateTable, generation: int, seed: int, say: Callable[[str], None]
) -> None:
    """Write `claims`, `occurrences`, `evidence`, `verdicts`, `findings` and `subjects` of all parts, once."""
    own = Parts(out, STAGE)
    if own.is_done(0) and all(own.is_done(part) for part in range(parts)):
        return
    by_source: dict[str, list[TimedVerdict]] = {}
    texts: dict[_Text, bytes] = {}
    collections = sorted({document.collection for document in judged_documents(out, parts)})
    for collection in collections:
        documents, repeats = (
            [
                one for one in some
                if one.collection == collection and all(past < generation for past in one.ancestors)
            ]
            for some in (judged_documents(out, parts), repeating_documents(out, parts))
        )  # fmt: skip
        told = [*documents, *repeats]
        if sum(len(one.text) for one in told) > _MOST_BYTES:
            say(f"{collection}: more than {_MOST_BYTES >> 20} MB, so no timelines are made of it")
            continue
        mirrors = {one.publisher for one in repeats} - {one.publisher for one in documents}
        _, verdicts = judge_documents(told, seed, settings.act_above, mirrors)
        judged, stated = {(one.source, one.sha) for one in documents}, set()
        for verdict in verdicts:
            stated.add(place := (verdict.statement.source, verdict.statement.doc_sha))
            if place in judged:
                by_source.setdefault(verdict.statement.source, []).append(verdict)
        texts |= {(one.source, one.sha): one.text.encode() for one in told if (one.source, one.sha) in stated}
    for part in range(parts):
        if not own.is_done(part):
            _write(own, part, cleaned_documents(out, [part]), by_source, texts, generation)


def _write(
    own: Parts, part: int, documents: Iterable[Document], by_source: dict[str, list[TimedVerdict]],
    texts: dict[_Text, bytes], generation: int,
) -> None:  # fmt: skip
    known: set[str] = set()
    with (
        own.writer(part, "claims", ClaimRow) as claims,
        own.writer(part, "occurrences", OccurrenceRow) as places,
        own.writer(part, "evidence", EvidenceRow) as evidence,
        own.writer(part, "verdicts", VerdictRow) as verdicts,
        own.writer(part, "findings", Finding) as findings,
        own.writer(part, "subjects", SubjectRow) as subjects,
    ):
        for document in documents:
            told = by_source.get(document.source, [])
            for verdict in sorted(told, key=lambda one: one.statement.start):
                claim = _claim(document, verdict)
                place = _place(verdict.statement, claim.claim_id)
                places.add(place)
                about = f"{verdict.statement.subject} {verdict.statement.year}".strip().lower()
                subjects.add(SubjectRow(document.source, place.byte_start, place.byte_end, about))
                findings.add(_finding(place, verdict, texts[document.source, document.sha]))
                if claim.claim_id in known:
                    continue
                known.add(claim.claim_id)
                claims.add(claim)
                shown = ((one, texts[one.source, one.doc_sha]) for one in _closest(verdict))
                rows = [_evidence(claim.claim_id, verdict, one, text) for one, text in shown]
                for row in rows:
                    evidence.add(row)
                verdicts.add(
                    VerdictRow(
                        claim.claim_id, VERIFIER, _VERSION, "", short_hash(*sorted(row.ev_id for row in rows)),
                        verdict.stance, verdict.p, verdict.p, generation, verdict.answer or verdict.now, verdict.note,
                    )
                )  # fmt: skip
    own.finish(part)


def _claim(document: Document, verdict: TimedVerdict) -> ClaimRow:
    told = verdict.statement
    text = document.text.encode()
    sentence = text[told.line_start : told.line_end].decode()
    start = len(text[told.line_start : told.start].decode())
    row = claim_row(document, sentence, start, start + len(told.text), "value")
    about = vars(row) | {
        "claim_id": short_hash(row.claim_id, told.published), "subject": told.subject or row.subject,
        "valid_from": verdict.valid_from, "valid_to": verdict.valid_to, "nature": verdict.nature,
    }  # fmt: skip
    return ClaimRow(**about)


def _place(told: Statement, claim_id: str) -> OccurrenceRow:
    return OccurrenceRow(
        short_hash(told.source, str(told.start), claim_id), told.doc_sha, told.source, told.line_start, told.line_end,
        told.start, told.end, claim_id,
    )  # fmt: skip


def _finding(place: OccurrenceRow, verdict: TimedVerdict, text: bytes) -> Finding:
    told = verdict.statement
    superseded = verdict.time == "superseded" and verdict.stance != "refuted"
    newer = text[told.line_start : told.start].decode() + verdict.now + text[told.end : told.line_end].decode()
    answer = "" if superseded else verdict.answer
    said = verdict.now if superseded else answer if verdict.stance == "refuted" else told.text
    return Finding(
        **vars(place), stance=verdict.stance, time=verdict.time, nature=verdict.nature, p_stated=verdict.p,
        answer=answer, p_answer=1 - verdict.p if answer else 0.0,
        agreed_by=_second_opinion(verdict, said), verdict=VERIFIER,
        newer_on=verdict.valid_to if superseded else "", newer_text=newer if superseded and verdict.now else "",
    )  # fmt: skip


def _second_opinion(verdict: TimedVerdict, value: str) -> str:
    """Who says it besides: two other publishers, or of what came later one; empty where fewer do."""
    if not value:
        return ""
    stated = read(value)
    others = {one.publisher for one in verdict.witnesses if agree(one.reading, stated)}
    if len(others) > 1:
        return "two publishers"
    return "a later publisher" if others and verdict.time == "superseded" and verdict.stance != "refuted" else ""


def _closest(verdict: TimedVerdict) -> list[Statement]:
    """The newest word of each publisher first, then the next of each."""
    by_publisher = [
        sorted(several, key=lambda one: one.published, reverse=True)
        for _, several in groupby(sorted(verdict.witnesses, key=_publisher), key=_publisher)
    ]
    rounds = range(max(map(len, by_publisher), default=0))
    return [several[n] for n in rounds for several in by_publisher if n < len(several)][:_SHOWN]


def _publisher(told: Statement) -> str:
    return told.publisher


def _evidence(claim_id: str, verdict: TimedVerdict, told: Statement, text: bytes) -> EvidenceRow:
    supports = agree(told.reading, verdict.statement.reading)
    return EvidenceRow(
        short_hash(claim_id, told.doc_sha, str(told.start)), claim_id, told.doc_sha, told.source, told.publisher,
        told.published, 0, (), text[told.line_start : told.line_end].decode(), told.text,
        "supported" if supports else "refuted", 1.0,
    )  # fmt: skip
