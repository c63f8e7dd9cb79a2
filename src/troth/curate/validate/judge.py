"""The judge: which of the candidate values is true, as a probability.

A conditional logit (McFadden 1974) over the candidates of a case. It is fitted on planted errors: claims of the corpus
itself with another value of the same kind put in their place, so that nobody has to label anything. How often each
publisher errs, next to the others, is then read off the verdicts themselves and becomes the prior of its claims (after
Saerens et al. 2002; the mean over all publishers is held, without which it would run away where little is known).
"""

from dataclasses import dataclass

import numpy as np

_RIDGE, _STEPS = 0.1, 25
_PRIOR_ROUNDS, _PRIOR_STRENGTH, _MOST_ERRORS = 6, 40.0, 0.6


@dataclass(frozen=True)
class Example:
    """Features [candidates, k] of a case whose true candidate is known, and how much it counts."""

    x_CK: np.ndarray
    true: int
    weight: float


def fit(examples: list[Example]) -> np.ndarray:
    """Weights [k] that make the true candidates likeliest, by Newton's method with a ridge."""
    theta = np.zeros(examples[0].x_CK.shape[1])
    for _ in range(_STEPS):
        gradient, hessian = -_RIDGE * theta, _RIDGE * np.eye(len(theta))
        for example in examples:
            p = _softmax(example.x_CK @ theta)
            mean = p @ example.x_CK
            gradient += example.weight * (example.x_CK[example.true] - mean)
            hessian += example.weight * ((example.x_CK.T * p) @ example.x_CK - np.outer(mean, mean))
        step = np.linalg.solve(hessian, gradient)
        theta += step
        if np.abs(step).max() < 1e-6:
            break
    return theta


def judge(
    features: list[np.ndarray], publishers: list[str], theta: np.ndarray, planted_rate: float
) -> tuple[list[np.ndarray], dict[str, float]]:
    """Probabilities of the candidates of each case, and each publisher's estimated share of wrong claims.

    `planted_rate` is the share of wrong claims that `theta` was fitted for, where every publisher's estimate starts.
    """
    posteriors = [_softmax(x @ theta) for x in features]
    error = dict.fromkeys(publishers, planted_rate)
    for _ in range(_PRIOR_ROUNDS):
        wrong: dict[str, list[float]] = {who: [] for who in publishers}
        for p, who in zip(posteriors, publishers, strict=True):
            wrong[who].append(1 - _with_prior(p, error[who], planted_rate)[0])
        overall = sum(map(sum, wrong.values())) / len(posteriors)
        for who, shares in wrong.items():
            own = (sum(shares) + _PRIOR_STRENGTH * overall) / (len(shares) + _PRIOR_STRENGTH)
            error[who] = min(_MOST_ERRORS, planted_rate * own / overall)
    return [_with_prior(p, error[who], planted_rate) for p, who in zip(posteriors, publishers, strict=True)], error


def _with_prior(p: np.ndarray, error: float, planted_rate: float) -> np.ndarray:
    shifted = p.copy()
    shifted[0] *= (1 - error) / (1 - planted_rate)
    shifted[1:] *= error / planted_rate
    return shifted / shifted.sum()


def _softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max())
    return e / e.sum()
