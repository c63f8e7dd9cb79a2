"""Logistic regression on hashed features that are there or not, by L-BFGS (Liu & Nocedal 1989) with a ridge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_MEMORY, _STEPS, _TOLERANCE = 8, 200, 1e-5


@dataclass(frozen=True)
class Rows:
    """Examples as lists of buckets, one after another: `buckets` of row r are those from `starts[r]` on."""

    buckets: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Rows":
        """From one non-empty list of buckets a row."""
        sizes = np.array([len(row) for row in rows], dtype=np.int64)
        assert sizes.all()
        flat = np.fromiter((bucket for row in rows for bucket in row), dtype=np.int64, count=int(sizes.sum()))
        return cls(flat, np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64))

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """The sum of each row's weights [rows]."""
        return np.add.reduceat(weights[self.buckets], self.starts) if len(self.starts) else np.zeros(0)

    def spread(self, values: np.ndarray, size: int) -> np.ndarray:
        """The transpose: each row's value added to all of its buckets [size]."""
        sizes = np.diff(np.append(self.starts, len(self.buckets)))
        return np.bincount(self.buckets, weights=np.repeat(values, sizes), minlength=size)


def fit(rows: Rows, labels: np.ndarray, size: int, ridge: float, weights: np.ndarray | None = None) -> np.ndarray:
    """Weights [size] that make `labels` (0 or 1, [rows]) likeliest, less `ridge` times half their squares; `weights`
    say how much each row counts."""
    weights = np.ones(len(labels)) if weights is None else weights

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        score = rows.scores(w)
        p = sigmoid(score)
        value = float((weights * (np.logaddexp(0, score) - labels * score)).sum() + ridge * (w @ w) / 2)
        return value, rows.spread(weights * (p - labels), size) + ridge * w

    return minimise(loss, np.zeros(size))


def minimise(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], w: np.ndarray) -> np.ndarray:
    """The minimum of a smooth convex function that returns its value and gradient."""
    value, gradient = loss(w)
    steps: list[tuple[np.ndarray, np.ndarray]] = []
    start = float(np.abs(gradient).max())
    for _ in range(_STEPS):
        direction = -_inverse_hessian(gradient, steps)
        slope = float(gradient @ direction)
        size = 1.0 if steps else min(1.0, 1.0 / (float(np.linalg.norm(gradient)) + 1e-12))
        while True:
            new = w + size * direction
            new_value, new_gradient = loss(new)
            if new_value <= value + 1e-4 * size * slope or size < 1e-10:
                break
            size /= 2
        moved, turned = new - w, new_gradient - gradient
        if moved @ turned > 1e-12:
            steps = [*steps, (moved, turned)][-_MEMORY:]
        w, value, gradient = new, new_value, new_gradient
        if float(np.abs(gradient).max()) < _TOLERANCE * max(1.0, start) or size < 1e-10:
            break
    return w


def _inverse_hessian(gradient: np.ndarray, steps: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    q, alphas = gradient.copy(), []
    for moved, turned in reversed(steps):
        alpha = (moved @ q) / (moved @ turned)
        alphas.append(alpha)
        q -= alpha * turned
    if steps:
        moved, turned = steps[-1]
        q *= (moved @ turned) / (turned @ turned)
    for (moved, turned), alpha in zip(steps, reversed(alphas), strict=True):
        q += moved * (alpha - (turned @ q) / (moved @ turned))
    return q


def sigmoid(score: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-score)), without overflow."""
    return np.exp(-np.logaddexp(0, -score))
