"""From raw scores to probabilities: Platt's sigmoid where few claims are labelled (Platt 1999, with his smoothed
targets), isotonic regression where many are (Zadrozny & Elkan 2002); several verifiers' opinions as one, by logistic
regression on their log-odds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from troth.curate.validate.verifiers.linear import minimise, sigmoid

_MANY, _BINS, _RIDGE = 1000, 10, 1.0
_LEAST = 0.005
"""No opinion is surer than this, however sure its verifier."""


@dataclass(frozen=True)
class Calibration:
    """One verifier's raw scores as probabilities that a claim is true: straight lines through the points (`scores`
    ascending, `probabilities` not falling), or Platt's sigmoid of `slope` and `offset` where there are no points."""

    slope: float
    offset: float
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()

    def __call__(self, raw: float) -> float:
        """The probability that a claim of this raw score is true."""
        if self.scores:
            p = float(np.interp(raw, self.scores, self.probabilities))
        else:
            # Not by `sigmoid`, which rounds so often that of two scores next to each other the higher may get less.
            p = 1 / (1 + math.exp(min(700.0, -(self.slope * raw + self.offset))))
        return min(1 - _LEAST, max(_LEAST, p))


@dataclass(frozen=True)
class CalibrationReport:
    """Over labelled claims, five-fold cross-validated: the expected calibration error and the Brier score, before
    (raw scores put between 0 and 1) and after."""

    claims: int
    method: str
    ece_before: float
    ece_after: float
    brier_before: float
    brier_after: float


def calibrate(raw: Sequence[float], true: Sequence[bool]) -> tuple[Calibration, CalibrationReport]:
    """A calibration of one verifier, and how good it is on claims that it was not fitted to.

    Raises ValueError where fewer than ten claims are labelled or all alike.
    """
    x, y = np.asarray(raw, dtype=float), np.asarray(true, dtype=float)
    if len(x) < 10 or y.min() == y.max():
        raise ValueError(f"{len(x)} labelled claims, {int(y.sum())} of them true: expected ten or more, of both kinds")
    folds = np.arange(len(x)) % 5
    # Sorted labels would make the folds unlike: deal each label out by itself.
    for label in (0.0, 1.0):
        of_label = np.flatnonzero(y == label)
        folds[of_label] = np.arange(len(of_label)) % 5
    after = np.zeros(len(x))
    for fold in range(5):
        held = folds == fold
        fitted = _fit(x[~held], y[~held])
        after[held] = [fitted(value) for value in x[held]]
    before = (x - x.min()) / max(1e-12, x.max() - x.min()) if x.min() < 0 or x.max() > 1 else x
    method = "isotonic" if len(x) >= _MANY else "platt"
    report = CalibrationReport(len(x), method, ece(before, y), ece(after, y), brier(before, y), brier(after, y))
    return _fit(x, y), report


def _fit(x: np.ndarray, y: np.ndarray) -> Calibration:
    slope, offset = _platt(x, y)
    if len(x) < _MANY:
        return Calibration(slope, offset)
    scores, probabilities = _isotonic(x, y)
    return Calibration(slope, offset, tuple(scores.tolist()), tuple(probabilities.tolist()))


def _platt(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    mean, scale = x.mean(), x.std() or 1.0
    true = y.sum()
    targets = np.where(y == 1, (true + 1) / (true + 2), 1 / (len(y) - true + 2))
    z = (x - mean) / scale

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        score = w[0] * z + w[1]
        error = sigmoid(score) - targets
        return float((np.logaddexp(0, score) - targets * score).sum()), np.array([error @ z, error.sum()])

    slope, offset = minimise(loss, np.zeros(2))
    # A verifier that is worse than chance on a handful of claims is silent, and not turned round.
    slope = max(0.0, float(slope))
    return slope / scale, float(offset) - slope * mean / scale


def _isotonic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pool adjacent violators: the closest probabilities that never fall, at the mean score of each pool."""
    order = np.argsort(x, kind="stable")
    pools: list[list[float]] = []
    for score, label in zip(x[order].tolist(), y[order].tolist(), strict=True):
        pools.append([label, 1.0, score])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    sums = np.array(pools)
    # One true claim more and one false: no pool is sure.
    return sums[:, 2] / sums[:, 1], (sums[:, 0] + 0.5) / (sums[:, 1] + 1)


def ece(p: np.ndarray, y: np.ndarray) -> float:
    """Expected calibration error in ten bins of equal width (Naeini et al. 2015)."""
    bins = np.minimum((p * _BINS).astype(int), _BINS - 1)
    gaps = np.abs(np.bincount(bins, p - y, minlength=_BINS))
    return float(gaps.sum() / len(p))


def brier(p: np.ndarray, y: np.ndarray) -> float:
    """The mean square of what the probabilities are off by."""
    return float(np.mean((p - y) ** 2))


@dataclass(frozen=True)
class Combination:
    """One opinion out of several: how much each verifier's log-odds count. One that said nothing counts nothing."""

    weights: Mapping[str, float]
    prior: float

    def probability(self, opinions: Mapping[str, float]) -> float:
        """The probability that a claim is true, given the calibrated ones of those verifiers that spoke."""
        score = self.prior + sum(self.weights.get(name, 0.0) * logit(p) for name, p in opinions.items())
        return float(sigmoid(np.array(score)))


def combine(opinions: Sequence[Mapping[str, float]], true: Sequence[bool]) -> Combination:
    """Weights fitted to labelled claims.

    `opinions` are calibrated probabilities by verifier, missing where it said nothing. Weights do not fall below zero.
    Raises ValueError where no claim has an opinion.
    """
    names = sorted({name for one in opinions for name in one})
    if not names:
        raise ValueError("no labelled claim has an opinion of any verifier")
    x = np.array([[logit(one[name]) if name in one else 0.0 for name in names] for one in opinions])
    y = np.asarray(true, dtype=float)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        # The square keeps weights from turning a verifier round; the ridge draws them to 1, an independent witness.
        weights = w[:-1] ** 2
        score = x @ weights + w[-1]
        error = sigmoid(score) - y
        value = (np.logaddexp(0, score) - y * score).sum() + _RIDGE * (((weights - 1) ** 2).sum() + w[-1] ** 2) / 2
        gradient = (x.T @ error + _RIDGE * (weights - 1)) * 2 * w[:-1]
        return float(value), np.append(gradient, error.sum() + _RIDGE * w[-1])

    fitted = minimise(loss, np.append(np.ones(len(names)), 0.0))
    weights = dict(zip(names, (fitted[:-1] ** 2).tolist(), strict=True))
    return Combination(weights, float(fitted[-1]))


def logit(p: float) -> float:
    """The log-odds of a probability, which is kept from 0 and 1."""
    p = min(1 - _LEAST, max(_LEAST, p))
    return float(np.log(p / (1 - p)))
