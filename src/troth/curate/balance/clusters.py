"""Spherical k-means (Dhillon and Modha 2001), begun by k-means++ (Arthur and Vassilvitskii 2007)."""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
_ROUNDS = 30


def unit(rows: Rows) -> Rows:
    """Rows of length 1; those of nothing stay so. Shape [n, d]."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def k_means(rows: Rows, k: int, seed: int) -> Rows:
    """At most `k` centres of unit rows of shape [n, d]; clusters that end up empty have none. Shape [k, d]."""
    random = np.random.default_rng(seed)
    centres = _spread(rows, min(k, len(rows)), random)
    before = None
    for _ in range(_ROUNDS):
        nearest = np.argmax(rows @ centres.T, axis=1)
        if before is not None and (nearest == before).all():
            break
        before = nearest
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, rows)
        centres = unit(sums[np.bincount(nearest, minlength=len(centres)) > 0])
        before = before if len(centres) == len(sums) else None
    return centres


def _spread(rows: Rows, k: int, random: np.random.Generator) -> Rows:
    chosen = [int(random.integers(len(rows)))]
    distance = 1 - rows @ rows[chosen[0]]
    for _ in range(k - 1):
        weights = np.clip(distance, 0, None).astype(np.float64)
        if weights.sum() <= 1e-6:
            break
        chosen.append(int(random.choice(len(rows), p=weights / weights.sum())))
        distance = np.minimum(distance, 1 - rows @ rows[chosen[-1]])
    return rows[chosen]
