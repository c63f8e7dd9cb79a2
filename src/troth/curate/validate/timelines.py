"""The stage `timelines`: what publishers that repeat their wordings say of the same facts over time.

It looks at a whole collection at once. In memory are the text of its largest publisher and all that is stated in
wordings that come back, so very large collections go without.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

from troth.curate.document import Document
from troth.curate.memory import sweep
from troth.curate.parts import Parts
from troth.curate.records import ClaimRow, EvidenceRow, OccurrenceRow, TimedFinding, VerdictRow, short_hash
from troth.curate.validate.slots import Statement, TimedVerdict, judge_documents
from troth.curate.validate.slots.readings import agree, read
from troth.curate.validate.stages import (
    cleaned_documents,
    judged_collections,
    judged_documents,
    repeating_documents,
)
from troth.curate.validate.statement import claim_row
from troth.curate.validate.subjects import SubjectRow
from troth.system import CurateTable

STAGE = "timelines"
VERIFIER = "timeline"
_VERSION = "2"
_MOST_BYTES = 512 << 20
_SHOWN = 8
"""Witnesses that go into the ledger, at most."""
_Sentence = tuple[str, str, int]
"""A source, which text of it (what stayed of a document, or what went because another publisher said it first), and
where in it a sentence begins."""


@dataclass(frozen=True)
class _Told:
    """The documents of a collection that may testify, read anew each time that they are gone through."""

    out: Path
    parts: int
    collection: str
    generation: int

    def __iter__(self) -> Iterator[Document]:
        return chain(self.judged(), self.repeating())

    def judged(self) -> Iterator[Document]:
        return filter(self._may_testify, judged_documents(self.out, self.parts))

    def repeating(self) -> Iterator[Document]:
        return filter(self._may_testify, repeating_documents(self.out, self.parts))

    def _may_testify(self, one: Document) -> bool:
        return one.collection == self.collection and all(past < self.generation for past in one.ancestors)


def timelines(
    out: Path, parts: int, settings: CurateTable, generation: int, seed: int, say: Callable[[str], None]
) -> None:
    """Write `claims`, `occurrences`, `evidence`, `verdicts`, `findings` and `subjects` of all parts, once."""
    own = Parts(out, STAGE)
    if own.is_done(0) and all(own.is_done(part) for part in range(parts)):
        return
    by_source: dict[str, list[TimedVerdict]] = {}
    shown: dict[_Sentence, str] = {}
    for collection in sorted(judged_collections(out, parts)):
        told = _Told(out, parts, collection, generation)
        if sum(len(one.text) for one in told) > _MOST_BYTES:
            say(f"{collection}: more than {_MOST_BYTES >> 20} MB, so no timelines are made of it")
            continue
        mirrors = {one.publisher for one in told.repeating()} - {one.publisher for one in told.judged()}
        _, verdicts = judge_documents(told, seed, settings.act_above, mirrors)
        for verdict in verdicts:
            by_source.setdefault(verdict.statement.source, []).append(verdict)
        shown |= _sentences(told, chain.from_iterable((*_closest(one), *filter(None, [one.newer])) for one in verdicts))
    for part in range(parts):
        if not own.is_done(part):
            _write(own, part, cleaned_documents(out, [part]), by_source, shown, generation)
    sweep()


def _sentences(documents: Iterable[Document], told: Iterable[Statement]) -> dict[_Sentence, str]:
    """The sentences in which statements stand."""
    wanted: dict[tuple[str, str], dict[int, int]] = {}
    for one in told:
        wanted.setdefault((one.source, one.doc_sha), {})[one.line_start] = one.line_end
    found: dict[_Sentence, str] = {}
    for document in documents:
        if places := wanted.pop((document.source, document.sha), None):
            text = document.text.encode()
            found |= {(document.source, document.sha, at): text[at:end].decode() for at, end in places.items()}
    return found


def _write(
    own: Parts, part: int, documents: Iterable[Document], by_source: dict[str, list[TimedVerdict]],
    shown: dict[_Sentence, str], generation: int,
) -> None:  # fmt: skip
    known: set[str] = set()
    with (
        own.writer(part, "claims", ClaimRow) as claims,
        own.writer(part, "occurrences", OccurrenceRow) as places,
        own.writer(part, "evidence", EvidenceRow) as evidence,
        own.writer(part, "verdicts", VerdictRow) as verdicts,
        own.writer(part, "findings", TimedFinding) as findings,
        own.writer(part, "subjects", SubjectRow) as subjects,
    ):
        for document in documents:
            text = document.text.encode()
            told = [one for one in by_source.get(document.source, ()) if one.statement.doc_sha == document.sha]
            told.sort(key=lambda one: one.statement.start)
            # Of a term each year belongs to the other one; what stands last belongs to the first, as all else does.
            spoken_of = {one.statement.line_start: _about(one.statement) for one in told}
            for verdict in told:
                claim = _claim(document, text, verdict)
                place = _place(verdict.statement, claim.claim_id)
                places.add(place)
                about = spoken_of[verdict.statement.line_start]
                subjects.add(SubjectRow(document.source, place.byte_start, place.byte_end, about))
                findings.add(_finding(place, verdict, shown))
                if claim.claim_id in known:
                    continue
                known.add(claim.claim_id)
                claims.add(claim)
                rows = [
                    _evidence(claim.claim_id, verdict, one, shown[one.source, one.doc_sha, one.line_start])
                    for one in _closest(verdict)
                ]
                for row in rows:
                    evidence.add(row)
                verdicts.add(
                    VerdictRow(
                        claim.claim_id, VERIFIER, _VERSION, "", short_hash(*sorted(row.ev_id for row in rows)),
                        verdict.stance, verdict.p, verdict.p, generation, verdict.answer or verdict.now, verdict.note,
                    )
                )  # fmt: skip
    own.finish(part)


def _claim(document: Document, text: bytes, verdict: TimedVerdict) -> ClaimRow:
    told = verdict.statement
    sentence = text[told.line_start : told.line_end].decode()
    start = len(text[told.line_start : told.start].decode())
    row = claim_row(document, sentence, start, start + len(told.text), "value")
    about = vars(row) | {
        "claim_id": short_hash(row.claim_id, told.published), "subject": told.subject or row.subject,
        "valid_from": verdict.valid_from, "valid_to": verdict.valid_to, "nature": verdict.nature,
    }  # fmt: skip
    return ClaimRow(**about)


def _about(told: Statement) -> str:
    return f"{told.subject} {told.year}".strip().lower()


def _place(told: Statement, claim_id: str) -> OccurrenceRow:
    return OccurrenceRow(
        short_hash(told.source, str(told.start), claim_id), told.doc_sha, told.source, told.line_start, told.line_end,
        told.start, told.end, claim_id,
    )  # fmt: skip


def _finding(place: OccurrenceRow, verdict: TimedVerdict, shown: dict[_Sentence, str]) -> TimedFinding:
    told, newer = verdict.statement, verdict.newer
    superseded = verdict.time == "superseded" and verdict.stance != "refuted"
    answer = "" if superseded else verdict.answer
    said = verdict.now if superseded else answer if verdict.stance == "refuted" else told.text
    return TimedFinding(
        **vars(place), stance=verdict.stance, time=verdict.time, nature=verdict.nature, p_stated=verdict.p,
        answer=answer, p_answer=1 - verdict.p if answer else 0.0,
        agreed_by=_second_opinion(verdict, said), verdict=VERIFIER,
        newer_on=(newer.published if newer else verdict.valid_to) if superseded else "",
        newer_text=shown[newer.source, newer.doc_sha, newer.line_start] if superseded and newer else "",
        heard=bool(verdict.witnesses),
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


def _evidence(claim_id: str, verdict: TimedVerdict, told: Statement, sentence: str) -> EvidenceRow:
    supports = agree(told.reading, verdict.statement.reading)
    return EvidenceRow(
        short_hash(claim_id, told.doc_sha, str(told.start)), claim_id, told.doc_sha, told.source, told.publisher,
        told.published, 0, (), sentence, told.text,
        "supported" if supports else "refuted", 1.0,
    )  # fmt: skip
