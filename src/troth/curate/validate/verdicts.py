"""From the judge's probabilities to verdicts, the evidence behind them, and what is to be done about a claim."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from troth.curate.records import EvidenceRow, Finding, Stance, Time, VerdictRow, short_hash
from troth.curate.validate.cases import Answers, Case
from troth.curate.validate.opinions import AGREEMENT, EXACT, Calibrated, Opinions
from troth.curate.validate.store import Store

_VERSION = "2"
_PRESENT = re.compile(r"\b(?:is|are|has|have|stands?|holds?|remains?|counts?|shows?|belongs?|serves?|wears?)\b")
_SUPERSEDED_AFTER = 4


@dataclass(frozen=True)
class Verdict:
    """The judgement of one case: the probability that the stated value is right, by the word of all; the value that
    belongs in its place (empty where none is known) with its probability; the number of that value among the
    candidates of the sources, -1 where it is not theirs; who says so."""

    stance: Stance
    p_stated: float
    answer: str
    p_answer: float
    best: int
    by: str


def verdict_of(case: Case, p_C: np.ndarray, said: Opinions, calibrated: Calibrated, act_above: float) -> Verdict:
    """From the probabilities that the agreement of sources gives to a case's candidates, and what verifiers say."""
    spoken = case.role != "alone"
    best = int(np.argmax(p_C[1:])) + 1
    p = calibrated.probability(float(p_C[0]) if spoken else None, said)
    refuted = [(name, found) for name, found in said.judgements() if name in EXACT and found.stance == "refuted"]
    if refuted:
        name, found = min(refuted, key=lambda one: calibrated.one(*one))
        same = next((n for n, text in enumerate(case.texts) if n and text == found.answer), -1)
        return Verdict("refuted", p, found.answer, 1 - p, same, name)
    if not spoken:
        stance: Stance = "supported" if p > 1 - act_above else "not_enough_evidence"
        return Verdict(stance, p, "", 0.0, -1, "")
    stance = "refuted" if 1 - p > act_above else "supported" if 0 in case.candidate else "not_enough_evidence"
    rest = float(p_C[1:].sum())
    p_answer = float(p_C[best]) / rest * (1 - p) if rest else 0.0
    return Verdict(stance, p, case.texts[best] if best < len(case.texts) else "", p_answer, best, AGREEMENT)


def evidence_rows(case: Case, store: Store) -> Iterator[EvidenceRow]:
    """What the witnesses of a case say."""
    for number, at, states, likeness in zip(case.candidate, case.at, case.states, case.likeness, strict=True):
        sentence = store.get(at)
        who = sentence.speaker
        yield EvidenceRow(
            short_hash(case.claim_id, who.doc_sha, str(sentence.start), states), case.claim_id, who.doc_sha, who.source,
            who.publisher, who.published, who.tier, who.ancestors, sentence.text, states,
            "supported" if number == 0 else "refuted", likeness,
        )  # fmt: skip


def verdict_rows(
    case: Case, p_C: np.ndarray, verdict: Verdict, answers: Answers, evidence: str, generation: int
) -> Iterator[VerdictRow]:
    """The sources' agreement, what the examiner gave to each candidate, and the verdict of all; `evidence` is the hash
    of what they saw."""
    if case.role != "alone":
        yield VerdictRow(
            case.claim_id, AGREEMENT, _VERSION, "", evidence, verdict.stance, float(p_C[0]), float(p_C[0]), generation,
            verdict.answer,
        )  # fmt: skip
    yield VerdictRow(
        case.claim_id, "all", _VERSION, "", evidence, verdict.stance, verdict.p_stated, verdict.p_stated, generation,
        verdict.answer,
    )  # fmt: skip
    for text, log_prob in zip(case.texts, answers.log_probs, strict=False):
        yield VerdictRow(
            case.claim_id, "examiner", "", "", evidence, "not_enough_evidence", log_prob, float("nan"), generation, text
        )


def finding(case: Case, verdict: Verdict, answers: Answers, said: Opinions, store: Store) -> Finding:
    """What refining needs to know of the claim."""
    answer, agreed, newer_on, newer_text = "", "", "", ""
    if verdict.stance == "refuted":
        answer, agreed = verdict.answer, _second_opinion(case, verdict, answers, said)
        if agreed:
            newer_on, newer_text = _newer(case, verdict, store)
    time: Time = "superseded" if newer_on else "current" if case.published and not answer else "undated"
    stance: Stance = "supported" if newer_on else verdict.stance  # it was right when it was said
    return Finding(
        case.occ_id, case.doc_sha, case.source_id, case.byte_start, case.byte_end, case.object_start, case.object_end,
        case.claim_id, stance, time, case.nature, verdict.p_stated, answer, verdict.p_answer, agreed,
        verdict.by, newer_on, newer_text,
    )  # fmt: skip


def _second_opinion(case: Case, verdict: Verdict, answers: Answers, said: Opinions) -> str:
    """What besides the one that gives the new value prefers it: sources, a verifier that refutes the old one, or the
    examiner; empty if nothing does."""
    others = [name for name, found in said.judgements() if found.stance == "refuted" and name != verdict.by]
    if verdict.by in EXACT:
        agree = [name for name, found in said.judgements() if name in others and found.answer == verdict.answer]
        return "sources" if verdict.best >= 0 else agree[0] if agree else ""
    voices = [publisher for c, publisher in zip(case.candidate, case.voice, strict=True) if c == verdict.best]
    if len(voices) > 1:
        return "its publisher elsewhere" if case.publisher in voices else "two publishers"
    if checked := next((name for name in others if name in EXACT), ""):
        return checked
    if answers.log_probs and verdict.best < len(case.texts) and answers.log_probs[verdict.best] > answers.log_probs[0]:
        return "examiner"
    return ""


def _newer(case: Case, verdict: Verdict, store: Store) -> tuple[str, str]:
    """The date by which only newer pages contradict a present-tense value, and the closest of their sentences; empty
    where the value is just wrong."""
    about = [
        (store.get(at), likeness + mutual)
        for number, at, likeness, mutual in zip(case.candidate, case.at, case.likeness, case.mutual, strict=True)
        if number == verdict.best
    ]
    rivals = [sentence.speaker.published[:4] for sentence, _ in about]
    year = case.published[:4]
    sentence = case.prefix + case.texts[0] + case.suffix
    if not year or not rivals or not all(rivals) or case.kind in ("year", "date") or not _PRESENT.search(sentence):
        return "", ""
    newer = min(rivals)
    if int(year) + _SUPERSEDED_AFTER > int(newer):
        return "", ""
    closest, _ = max(about, key=lambda one: one[1])
    return newer, closest.text
