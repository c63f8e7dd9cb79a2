"""From the judge's probabilities to verdicts, the evidence behind them, and what is to be done about a claim."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from troth.curate.records import EvidenceRow, Finding, Stance, Time, VerdictRow, short_hash
from troth.curate.validate.cases import Answers, Case
from troth.curate.validate.store import Store

AGREEMENT = "agreement"
_VERSION = "2"
_PRESENT = re.compile(r"\b(?:is|are|has|have|stands?|holds?|remains?|counts?|shows?|belongs?|serves?|wears?)\b")
_SUPERSEDED_AFTER = 4


@dataclass(frozen=True)
class Verdict:
    """The judgement of one case: the probability that the stated value is right, and the likeliest other one, by its
    number among the candidates; the last one is "none of these"."""

    stance: Stance
    p_stated: float
    best: int
    p_best: float


def verdict_of(case: Case, p_C: np.ndarray, act_above: float) -> Verdict:
    """From the probabilities of a case's candidates."""
    best = int(np.argmax(p_C[1:])) + 1
    stance: Stance = (
        "refuted" if 1 - p_C[0] > act_above else "supported" if 0 in case.candidate else "not_enough_evidence"
    )
    return Verdict(stance, float(p_C[0]), best, float(p_C[best]))


def answer_of(case: Case, verdict: Verdict) -> str:
    """The likeliest other value as written; empty for "none of these"."""
    return case.texts[verdict.best] if verdict.best < len(case.texts) else ""


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
    case: Case, verdict: Verdict, answers: Answers, evidence: str, generation: int
) -> Iterator[VerdictRow]:
    """The judge's verdict, and what the examiner gave to each candidate; `evidence` is the hash of what they saw."""
    yield VerdictRow(
        case.claim_id, AGREEMENT, _VERSION, "", evidence, verdict.stance, verdict.p_best, verdict.p_stated, generation,
        answer_of(case, verdict),
    )  # fmt: skip
    for text, log_prob in zip(case.texts, answers.log_probs, strict=False):
        yield VerdictRow(
            case.claim_id, "examiner", "", "", evidence, "not_enough_evidence", log_prob, float("nan"), generation, text
        )


def finding(case: Case, verdict: Verdict, answers: Answers, store: Store) -> Finding:
    """What refining needs to know of the claim."""
    answer, agreed, newer_on, newer_text = "", "", "", ""
    if verdict.stance == "refuted":
        answer, agreed = answer_of(case, verdict), _second_opinion(case, verdict, answers)
        if agreed:
            newer_on, newer_text = _newer(case, verdict, store)
    time: Time = "superseded" if newer_on else "current" if case.published and not answer else "undated"
    return Finding(
        case.occ_id, case.doc_sha, case.source_id, case.byte_start, case.byte_end, case.object_start, case.object_end,
        case.claim_id, verdict.stance, time, case.nature, verdict.p_stated, answer, verdict.p_best, agreed, AGREEMENT,
        newer_on, newer_text,
    )  # fmt: skip


def _second_opinion(case: Case, verdict: Verdict, answers: Answers) -> str:
    """What besides the judge prefers the new value: two publishers, or the examiner; empty if nothing does."""
    publishers = {p for c, p in zip(case.candidate, case.voice, strict=True) if c == verdict.best}
    if len(publishers) > 1:
        return "two publishers"
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
