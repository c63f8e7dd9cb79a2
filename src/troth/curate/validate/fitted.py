"""What is fitted to a corpus as a whole: the judge of its cases, and the calibration of its verifiers' opinions."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from troth.curate.parts import Parts
from troth.curate.records import short_hash
from troth.curate.rows import write_whole
from troth.curate.validate.candidates import FEATURES
from troth.curate.validate.cases import ALIKE, Answers, Case, Role, with_answers
from troth.curate.validate.judge import Voices, concatenated, fit, posteriors, publisher_errors, softmax
from troth.curate.validate.opinions import CrossFitted, Opinions, cross_fitted, load, save
from troth.curate.validate.weighed import Weighed, stacked, voices_of
from troth.system import CurateTable

_ROUNDS = 4
_RAREST = 0.005
_SAMPLE = 60_000
"""Cases that the judge is fitted on, at most."""
BATCH = 1024
"""Cases held at once, some 5 kB each."""

T = TypeVar("T")
W = TypeVar("W")


@dataclass(frozen=True)
class Judge:
    """What the judge learned: weights of the features, and each publisher's share of wrong claims."""

    theta: np.ndarray
    publishers: list[str]
    error: np.ndarray
    rate: float

    def probabilities(self, answered: Sequence[tuple[Weighed, Answers]]) -> tuple[np.ndarray, np.ndarray]:
        """Of the candidates of each case [N, C], and the same without regard to who says it (see `blind`)."""
        x, mask = stacked(answered)
        numbers = {publisher: number for number, publisher in enumerate(self.publishers)}
        cases = [case for case, _ in answered]
        speakers = np.array([numbers[case.publisher] for case in cases], int)
        scores = x @ self.theta
        fair = posteriors(scores, mask, voices_of(cases, numbers), speakers, self.error, self.rate)
        return fair, softmax(scores, mask)

    def blind(self, answered: Sequence[tuple[Weighed, Answers]]) -> np.ndarray:
        """The probabilities without regard to who says it, for errors that were planted in the words of others."""
        x, mask = stacked(answered)
        return softmax(x @ self.theta, mask)


@dataclass(frozen=True)
class _Heard:
    """Who speaks in a case."""

    publisher: str
    voice: tuple[str, ...]


@dataclass(frozen=True)
class _Drawn:
    """A case as the judge is fitted on it."""

    occ_id: str
    role: Role
    kind: str
    publisher: str
    true: int
    texts: tuple[str, ...]
    features: bytes
    candidate: tuple[int, ...]
    voice: tuple[str, ...]
    word: tuple[float, ...]
    alike: float


def judge_cases(out: Path, parts: int, settings: CurateTable) -> Judge:
    """Fit the judge on planted errors and on claims as they stand, these as far as the round before believed them, for
    some of them are wrong; how many is estimated, `canary_rate` at first and at most. Of very many cases a sample is
    taken, by their hash."""
    path = Parts(out, "judge").folder / "judge.json"
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
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
    drawn, count = _sampled(out, parts, share, numbers)
    rate = settings.canary_rate
    theta, error = np.zeros(len(FEATURES)), np.full(len(publishers), rate)
    if count:
        x, mask, x_planted, mask_planted = drawn.x[:count], drawn.mask[:count], drawn.x[count:], drawn.mask[count:]
        trusted = np.ones(count)
        confirmed = drawn.alike[:count] >= ALIKE
        for _ in range(_ROUNDS):
            weight = np.concatenate([(1 - rate) * trusted, np.full(len(x_planted), rate)])
            theta = fit(drawn.x, drawn.mask, drawn.true, weight)
            error = publisher_errors(x @ theta, mask, drawn.voices, drawn.speaker[:count], len(publishers), rate)
            trusted = posteriors(x @ theta, mask, drawn.voices, drawn.speaker[:count], error, rate)[:, 0]
            blind, blind_wrong = softmax(x @ theta, mask)[:, 0], softmax(x_planted @ theta, mask_planted)[:, 0]
            rate = wrong_share(trusted, blind[confirmed], blind_wrong, rate)
    found = {"theta": theta.tolist(), "publishers": publishers, "error": error.tolist(), "rate": rate}
    write_whole(path, json.dumps(found))
    return Judge(theta, publishers, error, rate)


def wrong_share(stated: np.ndarray, confirmed: np.ndarray, planted: np.ndarray, before: float) -> float:
    """The share of wrong claims, at most what was thought before: the adjusted count (Forman 2008) over the claims that
    anyone could confirm. From the probabilities that claims are right as they stand, those of claims that others do
    confirm, and those of planted errors."""
    if not len(confirmed) or not len(planted) or planted.mean() >= confirmed.mean():
        return before
    share = (confirmed.mean() - stated.mean()) / (confirmed.mean() - planted.mean())
    return float(np.clip(share * len(stated) / len(confirmed), _RAREST, before))


def answered_cases(out: Path, part: int, row: type[W]) -> Iterator[tuple[W, Answers]]:
    """What `row`, such as `Case`, holds of the cases of a part, each with what the examiner said to it."""
    return with_answers(
        Parts(out, "cases").read(part, "cases", row), Parts(out, "answers").read(part, "answers", Answers)
    )


@dataclass(frozen=True)
class _Sample:
    """Cases as arrays: features [N, C, K], which candidates there are [N, C] and which one is true [N], who states what
    in those that are stated, the number of the publisher that makes the claim [N], and how alike the closest
    confirmation is [N]."""

    x: np.ndarray
    mask: np.ndarray
    true: np.ndarray
    voices: Voices
    speaker: np.ndarray
    alike: np.ndarray


def _sampled(out: Path, parts: int, share: float, numbers: dict[str, int]) -> tuple[_Sample, int]:
    """The stated cases whose hash falls into a share of all hashes, behind them such planted ones, and how many are
    stated."""
    roles: tuple[Role, ...] = ("stated", "planted")
    drawn = (
        one for part in range(parts) for one in answered_cases(out, part, _Drawn)
        if one[0].role in roles and int(short_hash(one[0].occ_id), 16) < share * 2**64
    )  # fmt: skip
    pieces: dict[Role, list[_Sample]] = {role: [_arrays([], numbers)] for role in roles}
    features: dict[Role, list[np.ndarray]] = {role: [] for role in roles}
    for batch in batches(drawn, BATCH):
        for role in roles:
            found = _arrays([one for one in batch if one[0].role == role], numbers)
            features[role].append(found.x)
            pieces[role].append(replace(found, x=found.x[:0].copy()))
    stated, both = pieces["stated"], [*pieces["stated"], *pieces["planted"]]
    sizes = [len(one.true) for one in stated]
    return _Sample(
        _poured([*features.pop("stated"), *features.pop("planted")], both[0].x.shape[1:]),
        np.concatenate([one.mask for one in both]),
        np.concatenate([one.true for one in both]),
        concatenated([one.voices for one in stated], sizes),
        np.concatenate([one.speaker for one in both]),
        np.concatenate([one.alike for one in both]),
    ), sum(sizes)


def _poured(pieces: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Pieces [.., *shape] as one array; each goes when it was copied, for all of them are large."""
    whole = np.empty((sum(map(len, pieces)), *shape))
    last = len(whole)
    while pieces:
        piece = pieces.pop()
        whole[last - len(piece) : last] = piece
        last -= len(piece)
    return whole


def _arrays(answered: list[tuple[_Drawn, Answers]], numbers: dict[str, int]) -> _Sample:
    cases = [case for case, _ in answered]
    speaker = np.array([numbers[case.publisher] for case in cases], int)
    # What is stated is taken for true.
    true = np.array([case.true if case.role == "planted" else 0 for case in cases], int)
    alike = np.array([case.alike for case in cases], float)
    return _Sample(*stacked(answered), true, voices_of(cases, numbers), speaker, alike)


def calibrate_opinions(out: Path, parts: int, judge: Judge, settings: CurateTable) -> CrossFitted:
    """Fit what verifiers are worth to canaries and to claims that others confirm, or read what was fitted."""
    path = Parts(out, "judge").folder / "calibration.json"
    if not path.exists():
        save(path, cross_fitted(_labelled(out, parts, judge), settings.canary_rate))
    return load(path)


def _labelled(out: Path, parts: int, judge: Judge) -> Iterator[tuple[str, float, Opinions, bool]]:
    left = _SAMPLE
    for part in range(parts):
        cases = zip(answered_cases(out, part, Case), opinions_of(out, part), strict=True)
        for batch in batches(cases, BATCH):
            known = [
                one for one in batch
                if one[0][0].role == "canary" or (one[0][0].role == "stated" and one[0][0].alike >= ALIKE)
            ][:left]  # fmt: skip
            left -= len(known)
            p_NC = judge.blind([answered for answered, _ in known])
            for ((case, _), said), p_C in zip(known, p_NC, strict=True):
                yield case.claim_id, float(p_C[0]), said, case.role == "stated"


def opinions_of(out: Path, part: int) -> Iterator[Opinions]:
    """What verifiers said to the cases of a part."""
    return Parts(out, "opinions").read(part, "opinions", Opinions)


def batches(rows: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of at most so many rows."""
    while batch := list(islice(rows, size)):
        yield batch
