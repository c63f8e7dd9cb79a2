"""Fitting the calibration to published runs: damped least squares on logarithms, held to what is known beforehand.

Levenberg (1944) with derivatives by differences; an error of a factor counts like its logarithm, softly where it is
large (Cauchy's loss), because no column says why some runs are slow.
"""

from dataclasses import fields

import numpy as np

from troth.plan.calibration import FREE, Calibration, from_vector, to_vector
from troth.plan.run import Array, Columns
from troth.plan.step import step_seconds

SPREADS = np.array([constant.metadata["spread"] for constant in fields(Calibration)])
SOFT = 0.10
"""Logarithm of the error from which it counts softly."""


def fit(c: Columns, seconds: Array, weights: Array, rounds: int = 12) -> Calibration:
    """The constants under which the runs take what was measured. weights: how much each run counts."""
    prior = to_vector(Calibration())
    at = prior.copy()
    measured = np.log(seconds)
    damping = 1e-3

    def misses(vector: Array) -> Array:
        return np.asarray(np.log(step_seconds(c, from_vector(vector))) - measured)

    def loss(vector: Array, found: Array) -> float:
        soft = SOFT**2 * np.log1p((found / SOFT) ** 2)
        return float((weights * soft).sum() / SOFT**2 + (((vector - prior) / SPREADS) ** 2).sum())

    found = misses(at)
    best = loss(at, found)
    for _ in range(rounds):
        slopes = np.stack([(misses(at + 1e-4 * unit) - found) / 1e-4 for unit in np.eye(len(FREE))], axis=1)
        scale = weights / (1 + (found / SOFT) ** 2) / SOFT**2
        pull = 1 / SPREADS**2
        normal = slopes.T @ (slopes * scale[:, None]) + np.diag(pull)
        aim = slopes.T @ (scale * found) + pull * (at - prior)
        while damping < 1e6:
            move = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), aim)
            there = at - np.clip(move, -0.5, 0.5)
            new = misses(there)
            if loss(there, new) < best:
                break
            damping *= 4
        else:
            break
        gained, best = best - loss(there, new), loss(there, new)
        at, found, damping = there, new, damping / 4
        if gained < 1e-4 * best:
            break
    return from_vector(at)
