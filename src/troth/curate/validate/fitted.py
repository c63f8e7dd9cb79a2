"""What is fitted to a corpus as a whole: the judge of its cases, and the calibration of its verifiers' opinions."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from troth.curate.parts import Parts
from troth.curate.records import short_hash
from troth.curate.validate.candidates import CANDIDATES, FEATURES
from troth.curate.validate.cases import ALIKE, Answers, Case, with_answers
from troth.curate.validate.judge import Voices, concatenated, fit, posteriors, publisher_errors, softmax
from troth.curate.validate.opinions import Calibrated, Opinions, calibrated_on, load, save
from troth.system import CurateTable

_ROUNDS = 4
_RAREST = 0.005
_SAMPLE = 60_000
"""Cases that the judge is fitted on, at most."""
BATCH = 4096

T = TypeVar("T")


@dataclass(frozen=True)
class Judge:
    """What the judge learned: weights of the features, and each publisher's share of wrong claims."""

    theta: np.ndarray
    publishers: list[str]
    error: np.ndarray
    rate: float

    def probabilities(self, answered: list[tuple[Case, Answers]]) -> tuple[np.ndarray, np.ndarray]:
        """Of the candidates of each case [N, C], and the same without regard to who says it (see `blind`)."""
        x, mask = _stacked(answered)
        numbers = {publisher: number for number, publisher in enumerate(self.publishers)}
        cases = [case for case, _ in answered]
        speakers = np.array([numbers[case.publisher] for case in cases], int)
        scores = x @ self.theta
        fair = posteriors(scores, mask, _voices(cases, numbers), speakers, self.error, self.rate)
        return fair, softmax(scores, mask)

    def blind(self, answered: list[tuple[Case, Answers]]) -> np.ndarray:
        """The probabilities without regard to who says it, for errors that were planted in the words of others."""
        x, mask = _stacked(answered)
        return softmax(x @ self.theta, mask)


@dataclass(frozen=True)
class _Heard:
    """Who speaks in a case."""

    publisher: str
    voice: tuple[str, ...]


def judge_cases(out: Path, parts: int, settings: CurateTable) -> Judge:
    """Fit the judge on planted errors and on claims as they stand, these as far as the round before believed them, for
    some of them are wrong; how many is estimated, `canary_rate` at first and at most. Of very many cases a sample is
    taken, by their hash."""
    path = Parts(out, "judge").folder / "judge.json"
    if path.exists():
        known = json.loads(path.read_text())
        return Judge(np.array(known["theta"]), known["publishers"], np.array(known["error"]), known["rate"])
    heard: set[str] = set()
    total = 0
    for part in range(parts):
        for case in Parts(out, "cases").read(part, "cases", _Heard):
            heard.update((case.publisher, *case.voice))
            total += 1
    publishers = sorted(heard)
    numbers = {publisher: number for number, publisher in enumerate(publishers)}
    share = min(1.0, _SAMPLE / max(1, total))
    sample = [
        (case, answers) for part in range(parts) for case, answers in answered_cases(out, part)
        if case.role in ("stated", "planted") and int(short_hash(case.occ_id), 16) < share * 2**64
    ]  # fmt: skip
    stated = [one for one in sample if one[0].role == "stated"]
    planted = [one for one in sample if one[0].role == "planted"]
    rate = settings.canary_rate
    theta, error = np.zeros(len(FEATURES)), np.full(len(publishers), rate)
    if stated:
        x, mask = _stacked(stated)
        x_wrong, mask_wrong = _stacked(planted)
        spoken = [case for case, _ in stated]
        voices, speakers = _voices(spoken, numbers), np.array([numbers[case.publisher] for case in spoken], int)
        true = np.array([0] * len(stated) + [case.true for case, _ in planted], int)
        trusted = np.ones(len(stated))
        confirmed = np.array([case.alike >= ALIKE for case, _ in stated])
        for _ in range(_ROUNDS):
            weight = np.concatenate([(1 - rate) * trusted, np.full(len(planted), rate)])
            theta = fit(np.concatenate([x, x_wrong]), np.concatenate([mask, mask_wrong]), true, weight)
            error = publisher_errors(x @ theta, mask, voices, speakers, len(publishers), rate)
            trusted = posteriors(x @ theta, mask, voices, speakers, error, rate)[:, 0]
            blind, blind_wrong = softmax(x @ theta, mask)[:, 0], softmax(x_wrong @ theta, mask_wrong)[:, 0]
            rate = wrong_share(trusted, blind[confirmed], blind_wrong, rate)
    found = {"theta": theta.tolist(), "publishers": publishers, "error": error.tolist(), "rate": rate}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(found))
    os.replace(partial, path)
    return Judge(theta, publishers, error, rate)


def wrong_share(stated: np.ndarray, confirmed: np.ndarray, planted: np.ndarray, before: float) -> float:
    """The share of wrong claims, at most what was thought before: the adjusted count (Forman 2008) over the claims that
    anyone could confirm. From the probabilities that claims are right as they stand, those of claims that others do
    confirm, and those of planted errors."""
    if not len(confirmed) or not len(planted) or planted.mean() >= confirmed.mean():
        return before
    share = (confirmed.mean() - stated.mean()) / (confirmed.mean() - planted.mean())
    return float(np.clip(share * len(stated) / len(confirmed), _RAREST, before))


def answered_cases(out: Path, part: int) -> Iterator[tuple[Case, Answers]]:
    """The cases of a part, each with what the examiner said to it."""
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


def calibrate_opinions(out: Path, parts: int, judge: Judge, settings: CurateTable) -> Calibrated:
    """Fit what verifiers are worth to canaries and to claims that others confirm, or read what was fitted."""
    path = Parts(out, "judge").folder / "calibration.json"
    if not path.exists():
        save(path, calibrated_on(_labelled(out, parts, judge), settings.canary_rate))
    return load(path)


def _labelled(out: Path, parts: int, judge: Judge) -> Iterator[tuple[float, Opinions, bool]]:
    left = _SAMPLE
    for part in range(parts):
        cases = zip(answered_cases(out, part), opinions_of(out, part), strict=True)
        for batch in batches(cases, BATCH):
            known = [
                one for one in batch
                if one[0][0].role == "canary" or (one[0][0].role == "stated" and one[0][0].alike >= ALIKE)
            ][:left]  # fmt: skip
            left -= len(known)
            p_NC = judge.blind([answered for answered, _ in known])
            for ((case, _), said), p_C in zip(known, p_NC, strict=True):
                yield float(p_C[0]), said, case.role == "stated"


def opinions_of(out: Path, part: int) -> Iterator[Opinions]:
    """What verifiers said to the cases of a part."""
    return Parts(out, "opinions").read(part, "opinions", Opinions)


def batches(rows: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of at most so many rows."""
    while batch := list(islice(rows, size)):
        yield batch
