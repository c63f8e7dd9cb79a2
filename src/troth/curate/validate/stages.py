"""The stages of validation: index, neighbours, cases, the examiner's answers, the judge, verdicts.

Index and judge look at the whole corpus, as a stream or at a sample of bounded size; the others work on a part each.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from troth.curate.collect import collect
from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.progress import Counter
from troth.curate.records import ClaimRow, EvidenceRow, Finding, OccurrenceRow, VerdictRow, short_hash
from troth.curate.validate.canaries import Canary
from troth.curate.validate.candidates import CANDIDATES, FEATURES
from troth.curate.validate.cases import ALIKE, Answers, Case, cases_of, name_pool, with_answers
from troth.curate.validate.claims import name_words
from troth.curate.validate.evidence import Evidence, write_neighbours
from troth.curate.validate.examine import Cloze, Examiner
from troth.curate.validate.judge import Voices, concatenated, fit, posteriors, publisher_errors, softmax
from troth.curate.validate.opinions import (
    NOBODY,
    Calibrated,
    Opinions,
    ask,
    calibrated_on,
    load,
    question_of,
    save,
)
from troth.curate.validate.store import Store, build_store
from troth.curate.validate.verdicts import evidence_rows, finding, verdict_of, verdict_rows
from troth.curate.validate.verifiers.build import build_verifiers
from troth.curate.validate.verifiers.contradictions import contradictions
from troth.curate.validate.verifiers.endpoint import EndpointJudge, Spent
from troth.curate.validate.verifiers.entailment import Classifier
from troth.curate.validate.verifiers.tables import index_tables
from troth.curate.validate.verifiers.trained import train_verifier
from troth.system import CurateTable, DataTable

T = TypeVar("T")

_ROUNDS = 4
_SAMPLE = 60_000
"""Cases that the judge is fitted on, at most."""
_BATCH = 4096
_LEARNED_FROM = 2000
"""Documents whose sentences the trained verifier learns from, at most."""


def judged_collections(documents: Iterable[Document]) -> set[str]:
    """The collections in which at least two publishers speak; elsewhere nobody could contradict or confirm."""
    voices: dict[str, set[str]] = {}
    for document in documents:
        if document.kind == "prose":
            voices.setdefault(document.collection, set()).add(document.publisher)
    return {collection for collection, publishers in voices.items() if len(publishers) > 1}


def judged_documents(out: Path, parts: int) -> Iterator[Document]:
    """The documents whose claims are judged, as they were left by the stage before."""
    collections = judged_collections(cleaned_documents(out, range(parts)))
    return (document for document in cleaned_documents(out, range(parts)) if _is_judged(document, collections))


def cleaned_documents(out: Path, parts: Iterable[int]) -> Iterator[Document]:
    """What the filters and duplicates left of some parts."""
    before = Parts(out, "duplicates")
    return chain.from_iterable(before.read(part, "documents", Document) for part in parts)


def _is_judged(document: Document, collections: set[str]) -> bool:
    return document.kind == "prose" and document.collection in collections


def build_index(out: Path, parts: int, references: Iterable[Document], generation: int) -> None:
    """Write the store of all that may testify in this generation: what no model of this or a later generation had a
    hand in, of the corpus (tier 0) and of reference collections (tier 1)."""
    own = Parts(out, "index")
    if own.is_done(0):
        return
    shutil.rmtree(own.folder, ignore_errors=True)
    collections = judged_collections(cleaned_documents(out, range(parts)))
    names: set[str] = set()
    for document in cleaned_documents(out, range(parts)):
        if _is_judged(document, collections):
            names |= name_words(document)
    corpus = ((document, 0) for document in cleaned_documents(out, range(parts)) if _is_judged(document, collections))
    known = ((document, 1) for document in references if document.kind == "prose")
    may_testify = (one for one in chain(corpus, known) if all(past < generation for past in one[0].ancestors))
    build_store(may_testify, names, own.folder / "store")
    (own.folder / "collections.json").write_text(json.dumps(sorted(collections)))
    own.finish(0)


def neighbours_part(part: int, parts: int, out: Path, settings: CurateTable) -> None:
    """One share of the store's sentences: what stands nearest to each."""
    own, store = Parts(out, "neighbours"), _store(out)
    own.folder.mkdir(parents=True, exist_ok=True)
    first, last = len(store) * part // parts, len(store) * (part + 1) // parts
    write_neighbours(store, first, last, settings.evidence_top_k, own.file(part, "near", "npy"))
    own.finish(part)


def _store(out: Path) -> Store:
    return Store(Parts(out, "index").folder / "store")


def cases_part(part: int, parts: int, out: Path, settings: CurateTable, seed: int) -> None:
    """The claims of one part of the documents, where they stand, and their cases."""
    own, near = Parts(out, "cases"), Parts(out, "neighbours")
    files = [near.file(number, "near", "npy") for number in range(parts)]
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

        for document in counter.documents(cleaned_documents(out, [part])):
            if _is_judged(document, collections):
                for case in cases_of(document, evidence, pool, random, seen):
                    cases.add(case)
    own.finish(part)


def examine_part(part: int, out: Path, examiner: Examiner) -> None:
    """Ask the examiner about all cases of a part."""
    own = Parts(out, "answers")
    if own.is_done(part):
        return
    with own.writer(part, "answers", Answers) as rows:
        for cases in _batches(Parts(out, "cases").read(part, "cases", Case), 1 << 16):
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
    verifiers = build_verifiers(settings, verifiers_home(out), classifier=classifier)
    with own.writer(part, "opinions", Opinions) as rows:
        for cases in _batches(Parts(out, "cases").read(part, "cases", Case), _BATCH):
            asked = [case for case in cases if case.role != "planted"]
            said = iter(ask(verifiers, [question_of(case, tuple(evidence_rows(case, store))) for case in asked]))
            for case in cases:
                rows.add(next(said) if case.role != "planted" else NOBODY)
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
        named = collect(DataTable(sources=list(settings.tables))).documents if settings.tables else []
        found = chain(named, cleaned_documents(out, range(parts)))
        index_tables(home / "tables.sqlite", (document for document in found if document.kind == "table"))
    if "trained" in settings.verifiers and settings.trained_verifier is None:
        drawn = list(islice(judged_documents(out, parts), _LEARNED_FROM))
        train_verifier(list(contradictions(drawn, np.random.default_rng(seed)))).save(home / "trained.npz")
    own.finish(0)


def verifiers_home(out: Path) -> Path:
    """Where verifiers keep what they share."""
    return out / "verifiers"


def _opinions(out: Path, part: int) -> Iterator[Opinions]:
    return Parts(out, "opinions").read(part, "opinions", Opinions)


def calibrate_opinions(out: Path, parts: int, judge: "Judge", settings: CurateTable) -> Calibrated:
    """Fit what verifiers are worth to canaries and to claims that others confirm, or read what was fitted."""
    path = Parts(out, "judge").folder / "calibration.json"
    if not path.exists():
        save(path, calibrated_on(_labelled(out, parts, judge), settings.canary_rate))
    return load(path)


def _labelled(out: Path, parts: int, judge: "Judge") -> Iterator[tuple[float, Opinions, bool]]:
    left = _SAMPLE
    for part in range(parts):
        cases = zip(_answered(out, part), _opinions(out, part), strict=True)
        for batch in _batches(cases, _BATCH):
            known = [
                one for one in batch
                if one[0][0].role == "canary" or (one[0][0].role == "stated" and one[0][0].alike >= ALIKE)
            ][:left]  # fmt: skip
            left -= len(known)
            p_NC = judge.blind([answered for answered, _ in known])
            for ((case, _), said), p_C in zip(known, p_NC, strict=True):
                yield float(p_C[0]), said, case.role == "stated"


@dataclass(frozen=True)
class Judge:
    """What the judge learned: weights of the features, and each publisher's share of wrong claims."""

    theta: np.ndarray
    publishers: list[str]
    error: np.ndarray
    rate: float

    def probabilities(self, answered: list[tuple[Case, Answers]]) -> np.ndarray:
        """Of the candidates of each case [N, C]."""
        x, mask = _stacked(answered)
        numbers = {publisher: number for number, publisher in enumerate(self.publishers)}
        cases = [case for case, _ in answered]
        speakers = np.array([numbers[case.publisher] for case in cases], int)
        return posteriors(x @ self.theta, mask, _voices(cases, numbers), speakers, self.error, self.rate)

    def blind(self, answered: list[tuple[Case, Answers]]) -> np.ndarray:
        """The same without regard to who says it, for errors that were planted in the words of others."""
        x, mask = _stacked(answered)
        return softmax(x @ self.theta, mask)


def judge_cases(out: Path, parts: int, settings: CurateTable) -> Judge:
    """Fit the judge on planted errors and on claims as they stand, these as far as the round before believed them, for
    some of them are wrong. Of very many cases a sample is taken, by their hash."""
    path = Parts(out, "judge").folder / "judge.json"
    if path.exists():
        known = json.loads(path.read_text())
        return Judge(np.array(known["theta"]), known["publishers"], np.array(known["error"]), known["rate"])
    publishers = _store(out).publishers
    spoken = {case.publisher for part in range(parts) for case in Parts(out, "cases").read(part, "cases", Case)}
    publishers = sorted({*publishers, *spoken})
    numbers = {publisher: number for number, publisher in enumerate(publishers)}
    total = sum(1 for part in range(parts) for _ in Parts(out, "cases").read(part, "cases", Case))
    share = min(1.0, _SAMPLE / max(1, total))
    sample = [
        (case, answers) for part in range(parts) for case, answers in _answered(out, part)
        if case.role in ("stated", "planted") and int(short_hash(case.occ_id), 16) < share * 2**64
    ]  # fmt: skip
    stated = [one for one in sample if one[0].role == "stated"]
    planted = [one for one in sample if one[0].role == "planted"]
    rate = settings.canary_rate
    theta, error = np.zeros(len(FEATURES)), np.full(len(publishers), rate)
    if stated:
        x, mask = _stacked(stated)
        x_wrong, mask_wrong = _stacked(planted)
        cases = [case for case, _ in stated]
        voices, speakers = _voices(cases, numbers), np.array([numbers[case.publisher] for case in cases], int)
        true = np.array([0] * len(stated) + [case.true for case, _ in planted], int)
        trusted = np.ones(len(stated))
        for _ in range(_ROUNDS):
            weight = np.concatenate([(1 - rate) * trusted, np.full(len(planted), rate)])
            theta = fit(np.concatenate([x, x_wrong]), np.concatenate([mask, mask_wrong]), true, weight)
            error = publisher_errors(x @ theta, mask, voices, speakers, len(publishers), rate)
            trusted = posteriors(x @ theta, mask, voices, speakers, error, rate)[:, 0]
    found = {"theta": theta.tolist(), "publishers": publishers, "error": error.tolist(), "rate": rate}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(found))
    os.replace(partial, path)
    return Judge(theta, publishers, error, rate)


def _answered(out: Path, part: int) -> Iterator[tuple[Case, Answers]]:
    return with_answers(
        Parts(out, "cases").read(part, "cases", Case), Parts(out, "answers").read(part, "answers", Answers)
    )


def _stacked(answered: list[tuple[Case, Answers]]) -> tuple[np.ndarray, np.ndarray]:
    if not answered:
        return np.zeros((0, CANDIDATES, len(FEATURES))), np.zeros((0, CANDIDATES), bool)
    x = np.stack([case.x(answers.log_probs, answers.priors) for case, answers in answered])
    return x, np.stack([case.mask() for case, _ in answered])


def _voices(cases: list[Case], numbers: dict[str, int]) -> Voices:
    several = [
        Voices(
            np.zeros(len(case.word), int), np.array(case.candidate, int),
            np.array([numbers[who] for who in case.voice], int), np.array(case.word, float),
        )
        for case in cases
    ]  # fmt: skip
    return concatenated(several, [1] * len(several))


def verdicts_part(
    part: int, out: Path, settings: CurateTable, judge: Judge, calibrated: Calibrated, generation: int
) -> None:
    """Verdicts, evidence, findings and canaries of one part."""
    own, store = Parts(out, "validate"), _store(out)
    known: set[str] = set()
    with (
        own.writer(part, "evidence", EvidenceRow) as evidence,
        own.writer(part, "verdicts", VerdictRow) as verdicts,
        own.writer(part, "findings", Finding) as findings,
        own.writer(part, "canaries", Canary) as canaries,
    ):
        for batch in _batches(zip(_answered(out, part), _opinions(out, part), strict=True), _BATCH):
            asked = [answered for answered, _ in batch]
            fair, blind = judge.probabilities(asked), judge.blind(asked)
            for ((case, answers), said), p_C, blind_C in zip(batch, fair, blind, strict=True):
                if case.role == "planted":
                    continue
                p_C = p_C if case.role == "stated" else blind_C
                verdict = verdict_of(case, p_C, said, calibrated, settings.act_above)
                if case.role == "canary":
                    mended = bool(case.true) and verdict.answer == case.texts[case.true]
                    canaries.add(Canary(case.claim_id, case.planted, verdict.stance == "refuted", mended))
                    continue
                if case.alike >= ALIKE:
                    canaries.add(Canary(case.claim_id, "", verdict.stance == "refuted", False))
                if case.role == "alone" and not said.verifier:
                    continue
                findings.add(finding(case, verdict, answers, said, store))
                if case.claim_id in known:
                    continue
                known.add(case.claim_id)
                rows = list(evidence_rows(case, store))
                for row in rows:
                    evidence.add(row)
                seen = short_hash(*sorted(row.ev_id for row in rows))
                for opinion in verdict_rows(case, p_C, verdict, answers, seen, generation):
                    verdicts.add(opinion)
                for opinion in said.rows(case, calibrated, seen, generation):
                    verdicts.add(opinion)
    own.finish(part)


def _batches(rows: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(rows, size)):
        yield batch
