"""For one claim, the values that might be true in its place, and what speaks for each."""

from dataclasses import dataclass

import numpy as np

from troth.curate.validate.claims import Claim
from troth.curate.validate.evidence import Witness
from troth.curate.validate.values import Value, same

FEATURES = (
    "stated", "stated_number", "witnessed", "best", "second", "third", "best_number", "second_number",
    "mutual", "likeness", "subject", "alone", "second_mutual", "second_likeness", "second_subject",
    "stated_is_common", "examiner", "examiner_number", "none", "none_number",
)  # fmt: skip
"""What the judge weighs. best, second and third are the words of as many publishers; what follows describes the first
two of them."""
MAX_RIVALS = 4
_TEMPERATURE = 2.0
"""Divides what a small examiner thinks of a candidate, of which it is far too sure."""
_SURE = 2.0
"""A word this strong is surely about the claim's fact: each other's nearest, with most rare stems in common."""


@dataclass(frozen=True)
class Candidate:
    """A value with the witnesses that state it; `text` is how it is written, None for "none of the others"."""

    text: str | None
    witnesses: tuple[Witness, ...] = ()


@dataclass(frozen=True)
class Case:
    """What the judge decides on: `candidates[0]` is the stated value, the last one "none of these"."""

    claim: Claim
    candidates: tuple[Candidate, ...]


def build_case(claim: Claim, witnesses: list[Witness], stated: Value | None = None) -> Case:
    """Group the witnesses by the value they state and keep the rivals that have most in common with the claim.

    `stated` puts another value into the claim's place, as a planted error does.
    """
    stated = stated or claim.value
    groups: list[list[Witness]] = []
    own: list[Witness] = []
    for witness in sorted(witnesses, key=lambda w: -w.likeness):
        if same(witness.value, stated):
            own.append(witness)
            continue
        for group in groups:
            if same(group[0].value, witness.value):
                group.append(witness)
                break
        else:
            groups.append([witness])
    rivals = [Candidate(_as_written(claim, group[0].value), tuple(group)) for group in groups[:MAX_RIVALS]]
    return Case(claim, (Candidate(stated.text, tuple(own)), *rivals, Candidate(None)))


def features(case: Case, log_probs: list[float], priors: list[float], commonness: float) -> np.ndarray:
    """[candidates, FEATURES].

    `log_probs` are the examiner's for each candidate but the last in the claim's sentence, `priors` the same in an
    empty one; both are empty where nobody was asked. What counts is each candidate's share of the probability that the
    sentence adds, tempered, for log-probabilities of models this small have long tails. `commonness` says how usual a
    name the stated one is (see `Evidence.commonness`).
    """
    rows = np.zeros((len(case.candidates), len(FEATURES)))
    numeric = case.claim.value.kind != "name"
    for row, candidate in zip(rows[:-1], case.candidates[:-1], strict=True):
        first = candidate is case.candidates[0]
        words = sorted(_by_publisher(candidate).values(), key=lambda word: -word[0])
        (best, top), (second, next_best), (third, _) = (*words, *[(0.0, None)] * 3)[:3]
        row[:8] = first, first and numeric, bool(words), best, second, third, best * numeric, second * numeric
        if top:
            row[8:12] = top.mutual, top.likeness, top.subject, top.alone
        if next_best:
            row[12:15] = next_best.mutual, next_best.likeness, next_best.subject
    rows[0, 15] = commonness
    if log_probs:
        surprise = (np.array(log_probs) - np.array(priors)) / _TEMPERATURE
        rows[:-1, 16] = np.exp(surprise - np.logaddexp.reduce(surprise))
        rows[:-1, 17] = rows[:-1, 16] * numeric
    rows[-1, 18:] = 1.0, numeric
    return rows


def voices(case: Case, publishers: list[str]) -> np.ndarray:
    """How surely each publisher states each candidate in the place of the claim, from 0 to 1:
    [candidates, publishers]."""
    found = np.zeros((len(case.candidates), len(publishers)))
    for row, candidate in zip(found, case.candidates, strict=True):
        for publisher, (word, _) in _by_publisher(candidate).items():
            row[publishers.index(publisher)] = min(1.0, word / _SURE)
    return found


def _by_publisher(candidate: Candidate) -> dict[str, tuple[float, Witness]]:
    """How strongly each publisher states the candidate, with its closest witness."""
    words: dict[str, tuple[float, Witness]] = {}
    for witness in candidate.witnesses:
        publisher = witness.sentence.document.publisher
        word = (witness.likeness + witness.mutual + witness.subject) * witness.alone**0.5
        if publisher not in words or word > words[publisher][0]:
            words[publisher] = word, witness
    return words


def _as_written(claim: Claim, value: Value) -> str:
    """A rival's text, shaped like the stated one where that is only a matter of the first letter."""
    text = value.text
    if claim.value.kind != "name" and claim.value.text[:1].islower() and text[:1].isupper():
        text = text[0].lower() + text[1:]
    return text
