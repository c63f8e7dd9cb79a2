"""For one claim, the values that might be true in its place, and what speaks for each."""

from dataclasses import dataclass

import numpy as np

from troth.curate.validate.claims import Claim
from troth.curate.validate.evidence import Witness
from troth.curate.validate.values import Value, same

FEATURES = (
    "stated", "stated_number", "witnessed", "likeness", "likeness_squared", "likeness_number", "rarity",
    "second_publisher", "subject", "subject_likeness", "examiner", "examiner_stated", "none",
)  # fmt: skip
MAX_RIVALS = 4


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
    for witness in sorted(witnesses, key=lambda w: -w.shared):
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


def features(case: Case, log_probs: list[float], reliability: dict[str, float]) -> np.ndarray:
    """[candidates, FEATURES]. `log_probs` are the examiner's, one for each candidate but the last, or empty
    where nobody was asked; `reliability` weighs each publisher's word, 1 where unknown."""
    rows = np.zeros((len(case.candidates), len(FEATURES)))
    numeric = case.claim.value.kind != "name"
    asked = np.array(log_probs) if log_probs else np.zeros(len(case.candidates) - 1)
    asked = asked - np.logaddexp.reduce(asked)
    for row, candidate in zip(rows[:-1], case.candidates[:-1], strict=True):
        first = candidate is case.candidates[0]
        likeness: dict[str, float] = {}
        for witness in candidate.witnesses:
            publisher = witness.sentence.document.publisher
            word = witness.likeness * reliability.get(publisher, 1.0)
            likeness[publisher] = max(likeness.get(publisher, 0.0), word)
        best, second = (*sorted(likeness.values(), reverse=True), 0.0, 0.0)[:2]
        rarity = max((w.shared for w in candidate.witnesses), default=0.0)
        closest = max(candidate.witnesses, key=lambda w: w.likeness, default=None)
        row[:10] = (
            first, first and numeric, closest is not None, best, best**2, best * numeric, np.log1p(rarity) / 5, second,
            closest.subject if closest else 0.0, closest.subject * best if closest else 0.0,
        )  # fmt: skip
    rows[:-1, 10] = np.maximum(asked, -12.0) if log_probs else 0.0
    rows[0, 11] = rows[0, 10]
    rows[-1, 12] = 1.0
    return rows


def _as_written(claim: Claim, value: Value) -> str:
    """A rival's text, shaped like the stated one where that is only a matter of the first letter."""
    text = value.text
    if claim.value.kind != "name" and claim.value.text[:1].islower() and text[:1].isupper():
        text = text[0].lower() + text[1:]
    return text
