"""The stages of validation: index, neighbours, cases, the examiner's answers, the judge, verdicts.

Index and judge look at the whole corpus, as a stream or at a sample of bounded size; the others work on a part each.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from troth.curate.collect import collect
from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.progress import Counter
from troth.curate.records import ClaimRow, EvidenceRow, Finding, OccurrenceRow, TimedFinding, VerdictRow, short_hash
from troth.curate.validate.build_store import build_store
from troth.curate.validate.canaries import Canary
from troth.curate.validate.cases import ALIKE, Answers, Case, Role, cases_of, name_pool
from troth.curate.validate.claims import name_words
from troth.curate.validate.evidence import Evidence
from troth.curate.validate.examine import Cloze, Examiner
from troth.curate.validate.fitted import BATCH, Judge, answered_cases, batches, opinions_of
from troth.curate.validate.neighbours import write_neighbours
from troth.curate.validate.opinions import EXACT, NOBODY, CrossFitted, Opinions, ask, question_of
from troth.curate.validate.precedence import overlaps, spoken_of
from troth.curate.validate.store import Store
from troth.curate.validate.subjects import SubjectRow, beside
from troth.curate.validate.verdicts import Verdict, evidence_rows, finding, verdict_of, verdict_rows
from troth.curate.validate.verifiers.build import build_verifiers
from troth.curate.validate.verifiers.contradictions import contradictions
from troth.curate.validate.verifiers.endpoint import EndpointJudge, Spent
from troth.curate.validate.verifiers.entailment import Classifier
from troth.curate.validate.verifiers.tables import index_tables
from troth.curate.validate.verifiers.trained import train_verifier
from troth.system import CurateTable, DataTable

_LEARNED_FROM = 2000
"""Documents whose sentences the trained verifier learns from, at most."""


@dataclass(frozen=True)
class _Speaker:
    """Who speaks in a document."""

    collection: str
    publisher: str
    kind: str


@dataclass(frozen=True)
class _Asked:
    """A case as the examiner is asked about it."""

    source_id: str
    role: Role
    prefix: str
    suffix: str
    texts: tuple[str, ...]


def judged_collections(out: Path, parts: int) -> set[str]:
    """The collections in which at least two publishers speak; elsewhere nobody could contradict or confirm."""
    first: dict[str, str] = {}
    found: set[str] = set()
    before = Parts(out, "duplicates")
    for document in before.read_all(range(parts), "documents", _Speaker):
        if document.kind == "prose" and first.setdefault(document.collection, document.publisher) != document.publisher:
            found.add(document.collection)
    return found


def judged_documents(out: Path, parts: int) -> Iterator[Document]:
    """The documents whose claims are judged, as they were left by the stage before."""
    collections = judged_collections(out, parts)
    return (document for document in cleaned_documents(out, range(parts)) if _is_judged(document, collections))


def repeating_documents(out: Path, parts: int) -> Iterator[Document]:
    """What went from the documents because another publisher or an earlier edition said it: not judged, and no training
    text."""
    collections, before = judged_collections(out, parts), Parts(out, "duplicates")
    repeats = before.read_all(range(parts), "repeats", Document)
    return (document for document in repeats if _is_judged(document, collections))


def cleaned_documents(out: Path, parts: Iterable[int]) -> Iterator[Document]:
    """What the filters and duplicates left of some parts."""
    before = Parts(out, "duplicates")
    return before.read_all(parts, "documents", Document)


def _is_judged(document: Document, collections: set[str]) -> bool:
    return document.kind == "prose" and document.collection in collections


def build_index(out: Path, parts: int, references: Iterable[Document], generation: int) -> None:
    """Write the store of all that may testify in this generation: what no model of this or a later generation had a
    hand in, of the corpus (tier 0) and of reference collections (tier 1)."""
    own = Parts(out, "index")
    if own.is_done(0):
        return
    shutil.rmtree(own.folder, ignore_errors=True)
    collections = judged_collections(out, parts)
    names = name_words(judged_documents(out, parts))
    told = chain.from_iterable(_with_subjects(out, part, cleaned_documents(out, [part])) for part in range(parts))
    corpus = ((document, 0, subjects) for document, subjects in told if _is_judged(document, collections))
    nothing: list[SubjectRow] = []
    known = ((document, 1, nothing) for document in references if document.kind == "prose")
    may_testify = (one for one in chain(corpus, known) if all(past < generation for past in one[0].ancestors))
    build_store(may_testify, names, own.folder / "store")
    (own.folder / "collections.json").write_text(json.dumps(sorted(collections)))
    own.finish(0)


def neighbours_part(part: int, parts: int, out: Path, settings: CurateTable) -> None:
    """One share of the store's sentences: what stands nearest to each."""
    own, store = Parts(out, "neighbours"), _store(out)
    own.folder.mkdir(parents=True, exist_ok=True)
    first, last = len(store) * part // parts, len(store) * (part + 1) // parts
    write_neighbours(store, first, last, settings.evidence_top_k, own.file(part, "near", "bin"))
    own.finish(part)


def _with_subjects(out: Path, part: int, documents: Iterable[Document]) -> Iterator[tuple[Document, list[SubjectRow]]]:
    """The documents of a part, each with what timelines found it to speak of."""
    return beside(documents, Parts(out, "timelines").read(part, "subjects", SubjectRow))


def _store(out: Path) -> Store:
    return Store(Parts(out, "index").folder / "store")


def cases_part(part: int, parts: int, out: Path, settings: CurateTable, seed: int) -> None:
    """The claims of one part of the documents, where they stand, and their cases."""
    own, near = Parts(out, "cases"), Parts(out, "neighbours")
    files = [near.file(number, "near", "bin") for number in range(parts)]
    evidence = Evidence(_store(out), files, settings.evidence_top_k)
    collections = set(json.loads((Parts(out, "index").folder / "collections.json").read_text()))
    random = np.random.default_rng((seed, part))
    pool = name_pool(evidence, random)
    known: set[str] = set()
    with (
        own.writer(part, "claims", ClaimRow) as claims,
        own.writer(part, "occurrences", OccurrenceRow) as places,
        own.writer(part, "cases", Case) as cases,
        Counter(own, part) as counter,
    ):

        def seen(claim: ClaimRow, place: OccurrenceRow) -> None:
            places.add(place)
            if claim.claim_id not in known:
                known.add(claim.claim_id)
                claims.add(claim)

        documents = counter.documents(cleaned_documents(out, [part]))
        for document, subjects in _with_subjects(out, part, documents):
            if _is_judged(document, collections):
                cases.add_all(cases_of(document, subjects, evidence, pool, random, seen))
                evidence.store.let_go()
    own.finish(part)


def examine_part(part: int, out: Path, examiner: Examiner) -> None:
    """Ask the examiner about all cases of a part."""
    own = Parts(out, "answers")
    if own.is_done(part):
        return
    with own.writer(part, "answers", Answers) as rows:
        for cases in batches(Parts(out, "cases").read(part, "cases", _Asked), 1 << 16):
            asked = [Cloze(c.source_id, c.prefix, c.suffix, c.texts) for c in cases if c.role != "alone"]
            answers = examiner.ask([*asked, *(replace(cloze, prefix="", suffix="") for cloze in asked)])
            pairs = zip(answers[: len(asked)], answers[len(asked) :], strict=True)
            for case in cases:
                given, prior = next(pairs) if case.role != "alone" else ((), ())
                rows.add(Answers(tuple(given), tuple(prior)))
    own.finish(part)


def opinions_part(part: int, out: Path, settings: CurateTable, classifier: Classifier | None = None) -> None:
    """Ask the verifiers that `settings` name about all cases of a part, but for errors planted to fit the judge."""
    own = Parts(out, "opinions")
    if own.is_done(part):
        return
    store = _store(out)
    verifiers = build_verifiers(settings, verifiers_home(out), classifier)
    weighs_evidence = any(one.name not in EXACT for one in verifiers)
    with own.writer(part, "opinions", Opinions) as rows:
        for cases in batches(Parts(out, "cases").read(part, "cases", Case), BATCH):
            asked = [case for case in cases if case.role != "planted"]
            shown = (tuple(evidence_rows(case, store)) if weighs_evidence else () for case in asked)
            said = iter(ask(verifiers, [question_of(case, rows) for case, rows in zip(asked, shown, strict=True)]))
            for case in cases:
                rows.add(next(said) if case.role != "planted" else NOBODY)
            store.let_go()
    own.write(part, "spent", Spent, [one.spent for one in verifiers if isinstance(one, EndpointJudge)])
    own.finish(part)


def index_for_verifiers(out: Path, parts: int, settings: CurateTable, seed: int) -> None:
    """What verifiers share: the tables that the corpus holds, and a verifier trained on its sentences where `trained`
    is asked for without a file."""
    own = Parts(out, "shared")
    if own.is_done(0):
        return
    home = verifiers_home(out)
    shutil.rmtree(home, ignore_errors=True)
    if "tables" in settings.verifiers:
        data = DataTable(sources=list(settings.tables)) if settings.tables else None
        named = collect(data, settings.text_column).documents if data else []
        found = chain(named, cleaned_documents(out, range(parts)))
        index_tables(home / "tables.sqlite", (document for document in found if document.kind == "table"))
    if "trained" in settings.verifiers and settings.trained_verifier is None:
        drawn = list(islice(judged_documents(out, parts), _LEARNED_FROM))
        train_verifier(list(contradictions(drawn, np.random.default_rng(seed)))).save(home / "trained.npz")
    own.finish(0)


def verifiers_home(out: Path) -> Path:
    """Where verifiers keep what they share."""
    return out / "verifiers"


def verdicts_part(
    part: int, out: Path, settings: CurateTable, judge: Judge, calibrated: CrossFitted, generation: int
) -> None:
    """Verdicts, evidence, findings and canaries of one part."""
    own, store = Parts(out, "validate"), _store(out)
    known: set[str] = set()
    supported = _supported(out, part)
    with (
        own.writer(part, "evidence", EvidenceRow) as evidence,
        own.writer(part, "verdicts", VerdictRow) as verdicts,
        own.writer(part, "findings", Finding) as findings,
        own.writer(part, "canaries", Canary) as canaries,
    ):
        for batch in batches(zip(answered_cases(out, part, Case), opinions_of(out, part), strict=True), BATCH):
            asked = [answered for answered, _ in batch]
            fair, blind = judge.probabilities(asked)
            for ((case, answers), said), p_C, blind_C in zip(batch, fair, blind, strict=True):
                if case.role == "planted":
                    continue
                p_C = p_C if case.role == "stated" else blind_C
                if case.role == "canary" or case.alike >= ALIKE:
                    blind_to_it = calibrated.blind_to(case.claim_id)
                    measured = verdict_of(case, p_C, said, blind_to_it, settings.act_above)
                    canaries.add(_canary(case, measured, supported.get(case.source_id, ())))
                if case.role == "canary" or (case.role == "alone" and not said.verifier):
                    continue
                verdict = verdict_of(case, p_C, said, calibrated.whole, settings.act_above)
                findings.add(finding(case, verdict, answers, said, store))
                if case.claim_id in known:
                    continue
                known.add(case.claim_id)
                rows = list(evidence_rows(case, store))
                evidence.add_all(rows)
                seen = short_hash(*sorted(row.ev_id for row in rows))
                verdicts.add_all(verdict_rows(case, p_C, verdict, answers, seen, generation))
                verdicts.add_all(said.rows(case, calibrated.whole, seen, generation))
            store.let_go()
    own.finish(part)


def _supported(out: Path, part: int) -> dict[str, list[TimedFinding]]:
    """What timelines support in each document of a part, by its source."""
    found: dict[str, list[TimedFinding]] = {}
    for one in Parts(out, "timelines").read(part, "findings", TimedFinding):
        if one.stance == "supported":
            found.setdefault(one.source_id, []).append(one)
    return found


def _canary(case: Case, measured: Verdict, supported: Sequence[TimedFinding]) -> Canary:
    """How a claim whose truth is known fared; on what a timeline supports, nothing else has a say."""
    refuted = measured.stance == "refuted"
    if case.role == "canary":
        mended = bool(case.true) and measured.answer == case.texts[case.true]
        return Canary(case.claim_id, case.planted, refuted, mended)
    return Canary(case.claim_id, "", refuted and not overlaps(case, spoken_of(supported)), False)
