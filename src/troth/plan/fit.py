"""Fitting the calibration to published runs: damped least squares on logarithms (Levenberg, 1944), held to what is
known beforehand.

An error of a factor counts as its logarithm, and less the larger it is (Cauchy's loss), because no column of a table
says why some runs are slow.
"""

import numpy as np

from troth.plan.calibration import NAMES, PRIOR, SPREAD, Calibration, from_logarithms
from troth.plan.run import Array, Columns
from troth.plan.step import step_time

SOFT = 0.1
"""Logarithm of an error from which it counts less."""

ROUNDS = 30


def fit(c: Columns, seconds: Array) -> Calibration:
    """The constants under which runs take the seconds that were measured, as far as what is known of them allows."""
    measured = np.log(seconds)
    units = 1e-4 * np.eye(len(NAMES))

    def misses(vectors: Array) -> Array:
        return np.asarray(np.log(step_time(c, from_logarithms(vectors)).seconds) - measured)

    def loss(vector: Array, missed: Array) -> float:
        return float(np.log1p((missed / SOFT) ** 2).sum() + (((vector - PRIOR) / SPREAD) ** 2).sum())

    at = np.array(PRIOR)
    missed = misses(at[None])[0]
    best, damping = loss(at, missed), 1e-3
    for _ in range(ROUNDS):
        slopes = ((misses(at + units) - missed) / 1e-4).T
        weight = 1 / (SOFT**2 + missed**2)
        normal = slopes.T @ (slopes * weight[:, None]) + np.diag(SPREAD**-2)
        aim = slopes.T @ (weight * missed) + (at - PRIOR) / SPREAD**2
        moves = [np.linalg.solve(normal + d * np.diag(np.diag(normal)), aim) for d in damping * 4.0 ** np.arange(12)]
        tried = at - np.clip(moves, -0.5, 0.5)
        outcomes = misses(tried)
        losses = [loss(vector, outcome) for vector, outcome in zip(tried, outcomes, strict=True)]
        chosen = int(np.argmin(losses))
        if losses[chosen] > best - 1e-3:
            break
        at, missed, best = tried[chosen], outcomes[chosen], losses[chosen]
        damping *= 4.0 ** (chosen - 1)
    return Calibration(**{name: float(value) for name, value in zip(NAMES, np.exp(at), strict=True)})
