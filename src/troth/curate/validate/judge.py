"""The judge: which of the candidate values is true, as a probability.

A conditional logit (McFadden 1974) over the candidates of a case. It is fitted on planted errors: claims of the corpus
itself with another value of the same kind put in their place, so that nobody has to label anything. How often each
publisher errs, next to the others, is then read off the verdicts themselves. It becomes the prior of its claims (after
Saerens et al. 2002) and the weight of its word for others, as in truth discovery (Dawid & Skene 1979); the mean over
all publishers is held, without which it would run away where little is known.
"""

from dataclasses import dataclass

import numpy as np

_RIDGE, _STEPS = 0.1, 25
_PRIOR_ROUNDS, _PRIOR_STRENGTH, _FEWEST_ERRORS, _MOST_ERRORS = 6, 40.0, 0.001, 0.6


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
            p = softmax(example.x_CK @ theta)
            mean = p @ example.x_CK
            gradient += example.weight * (example.x_CK[example.true] - mean)
            hessian += example.weight * ((example.x_CK.T * p) @ example.x_CK - np.outer(mean, mean))
        step = np.linalg.solve(hessian, gradient)
        theta += step
        if np.abs(step).max() < 1e-6:
            break
    return theta


def judge(
    features: list[np.ndarray], voices: list[np.ndarray], speakers: np.ndarray, theta: np.ndarray, planted_rate: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """Probabilities of the candidates of each case, and each publisher's estimated share of wrong claims.

    `voices` say how surely each publisher states each candidate [candidates, publishers], `speakers` which publisher
    makes each claim. `planted_rate` is the share of wrong claims that `theta` was fitted for, where every publisher's
    estimate starts.
    """
    scores = [x @ theta for x in features]
    count = voices[0].shape[1]
    error = np.full(count, planted_rate)
    claims = np.bincount(speakers, minlength=count)
    for _ in range(_PRIOR_ROUNDS):
        odds = np.log((1 - error) / error) - np.log((1 - planted_rate) / planted_rate)
        posteriors = []
        for score, voice, who in zip(scores, voices, speakers, strict=True):
            own = score + voice @ odds
            own[0] += odds[who]
            posteriors.append(softmax(own))
        wrong = np.bincount(speakers, weights=[1 - p[0] for p in posteriors], minlength=count)
        overall = wrong.sum() / len(posteriors)
        share = (wrong + _PRIOR_STRENGTH * overall) / (claims + _PRIOR_STRENGTH)
        error = np.clip(planted_rate * share / overall, _FEWEST_ERRORS, _MOST_ERRORS)
    return posteriors, error


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities [n] from scores [n]."""
    e = np.exp(scores - scores.max())
    return e / e.sum()
