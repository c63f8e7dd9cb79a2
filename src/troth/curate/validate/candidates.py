"""For one claim, the values that might be true in its place, and what speaks for each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from troth.curate.validate.claims import Claim
from troth.curate.validate.evidence import Witness
from troth.curate.validate.values import Value, same

FEATURES = (
    "stated", "stated_number", "witnessed", "best", "second", "likeness", "mutual", "subject", "phrase", "around",
    "agrees", "alone", "apart", "own", "fits", "stated_is_common", "examiner", "examiner_number", "none", "none_number",
)  # fmt: skip
"""What the judge weighs. best and second are the words of as many publishers; what follows describes the first of them,
but for phrase, the highest of all witnesses; own is what the claim's publisher says of it elsewhere, fits how well a
name goes with the words beside it."""
STRENGTHS = slice(FEATURES.index("best"), FEATURES.index("alone") + 1)
"""Those that say how strong a candidate's witnesses are."""
MAX_RIVALS = 6
CANDIDATES = MAX_RIVALS + 2
_FITS, _COMMON, _EXAMINER, _NONE = map(FEATURES.index, ("fits", "stated_is_common", "examiner", "none"))
_TEMPERATURE = 2.0
"""Divides what a small examiner thinks of a candidate, of which it is far too sure."""
_AGREES, _APART = 4 / 3, 2 / 3
"""How much more, and less, the word of a witness counts that has another value of the claim, and one that has none of
them but others."""
_HEARD = 3
_SURE = 2.0
"""A word this strong is surely about the claim's fact: each other's nearest, with most rare stems in common."""


@dataclass(frozen=True)
class Candidate:
    """A value, as it is written (`text`), with the witnesses that state it, and how strongly each voice does (see
    `voices`)."""

    text: str
    value: Value
    witnesses: tuple[Witness, ...] = ()
    voices: tuple[tuple[float, Witness], ...] = ()


def candidates(claim: Claim, witnesses: list[Witness], stated: Value | None = None) -> list[Candidate]:
    """The stated value and its rivals: the witnesses grouped by the value they state, and of these groups those that
    the strongest voices state. `stated` puts another value into the claim's place, as a planted error does."""
    stated, publisher = stated or claim.value, claim.sentence.document.publisher
    own: list[Witness] = []
    groups: list[list[Witness]] = []
    group_of: dict[tuple[str, str, str], list[Witness]] = {}
    for witness in sorted(witnesses, key=lambda w: -w.likeness):
        value = witness.value
        form = value.kind, value.key, value.unit
        if form not in group_of:
            alike = own if same(value, stated) else next((one for one in groups if same(one[0].value, value)), None)
            if alike is None:
                alike = []
                groups.append(alike)
            group_of[form] = alike
        group_of[form].append(witness)
    rivals = [
        Candidate(_as_written(claim, group[0].value), group[0].value, tuple(group), tuple(voices(group, publisher)))
        for group in groups
    ]
    rivals.sort(key=lambda rival: -sum(word for word, _ in rival.voices[:_HEARD]))
    return [Candidate(stated.text, stated, tuple(own), tuple(voices(own, publisher))), *rivals[:MAX_RIVALS]]


def features(
    found: Sequence[Candidate], fits: np.ndarray, numeric: bool, commonness: float, publisher: str
) -> np.ndarray:
    """[CANDIDATES, FEATURES]: a row each candidate, zeros for those that are lacking, and last the row of "none of
    these". `fits` [found] and `commonness`, how usual a name the stated one is, are those of `Evidence`; `publisher`
    is whose claim it is; what the examiner thinks comes later (see `examined`)."""
    rows = np.zeros((CANDIDATES, len(FEATURES)))
    for number, (row, candidate) in enumerate(zip(rows, found, strict=False)):
        words, first = candidate.voices, number == 0
        row[:3] = first, first and numeric, bool(words)
        if words:
            best, top = words[0]
            row[3:_FITS] = (
                best, words[1][0] if len(words) > 1 else 0.0, top.likeness, top.mutual, top.subject,
                max(witness.phrase for witness in candidate.witnesses), top.around, top.agrees, top.alone, top.apart,
                max((word for word, one in words if one.sentence.speaker.publisher == publisher), default=0.0),
            )  # fmt: skip
    rows[: len(found), _FITS] = fits
    rows[0, _COMMON] = commonness
    rows[-1, _NONE:] = 1.0, numeric
    return rows


def examined(rows: np.ndarray, numeric: bool, log_probs: Sequence[float], priors: Sequence[float]) -> np.ndarray:
    """The features with the examiner's opinion in them.

    `log_probs` are the examiner's for each candidate in the claim's sentence, `priors` the same in an empty one. What
    counts is each candidate's share of the probability that the sentence adds, tempered, for log-probabilities of
    models this small have long tails.
    """
    rows = rows.copy()
    surprise = (np.array(log_probs) - np.array(priors)) / _TEMPERATURE
    share = np.exp(surprise - np.logaddexp.reduce(surprise))
    rows[: len(share), _EXAMINER] = share
    rows[: len(share), _EXAMINER + 1] = share * numeric
    return rows


def voices(witnesses: Sequence[Witness], publisher: str) -> list[tuple[float, Witness]]:
    """How strongly each voice states what these witnesses do, with its closest witness, strongest first.

    Other publishers have one voice each, and so has each page of the claim's own `publisher`, for a slip of one page is
    none of the others.
    """
    words: dict[str, tuple[float, Witness]] = {}
    for witness in witnesses:
        who = witness.sentence.speaker
        key = f"/{who.source}" if who.publisher == publisher else who.publisher
        word = (witness.likeness + witness.mutual + witness.subject) * witness.alone**0.5
        word *= _AGREES if witness.agrees else _APART if witness.apart else 1.0
        word += witness.phrase
        if key not in words or word > words[key][0]:
            words[key] = word, witness
    return sorted(words.values(), key=lambda word: -word[0])


def voice(word: float) -> float:
    """How surely a word is about the claim's fact, from 0 to 1."""
    return min(1.0, word / _SURE)


def _as_written(claim: Claim, value: Value) -> str:
    """A rival's text, shaped like the stated one where that is only a matter of the first letter."""
    text = value.text
    if claim.value.kind != "name" and claim.value.text[:1].islower() and text[:1].isupper():
        text = text[0].lower() + text[1:]
    return text
