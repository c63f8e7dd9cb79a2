"""The judge: which of the candidate values is true, as a probability.

A conditional logit (McFadden 1974) over the candidates of a case. It is fitted on planted errors: claims of the corpus
itself with another value of the same kind put in their place, so that nobody has to label anything. How often each
publisher errs, next to the others, is then read off the verdicts themselves. It becomes the prior of its claims (after
Saerens et al. 2002) and the weight of its word for others, as in truth discovery (Dawid & Skene 1979); the mean over
all publishers is held, without which it would run away where little is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RIDGE, _STEPS, _SMALLEST = 0.1, 50, 1e-6
_TOGETHER = 1 << 14
_PRIOR_ROUNDS, _PRIOR_STRENGTH, _FEWEST_ERRORS, _MOST_ERRORS = 6, 40.0, 0.001, 0.6


@dataclass(frozen=True)
class Voices:
    """Who states what in the place of the claims, one entry a word: `who` is a publisher's number, `word` how surely it
    is about the claim's fact, from 0 to 1. All [V]."""

    case: np.ndarray
    candidate: np.ndarray
    who: np.ndarray
    word: np.ndarray


def fit(x_NCK: np.ndarray, mask_NC: np.ndarray, true_N: np.ndarray, weight_N: np.ndarray) -> np.ndarray:
    """Weights [K] that make the true candidates likeliest, by Newton's method with a ridge, whose steps are halved
    until they gain: full ones overshoot where cases are nearly separable.

    `mask_NC` says which candidates there are, `true_N` which one is true, `weight_N` how much a case counts.
    """
    cases = np.arange(len(x_NCK))
    true_NK = x_NCK[cases, true_N]

    def gain(theta: np.ndarray) -> tuple[float, np.ndarray]:
        p_NC = softmax(x_NCK @ theta, mask_NC)
        likely = np.log(np.maximum(p_NC[cases, true_N], 1e-300))
        return float(weight_N @ likely - _RIDGE / 2 * theta @ theta), p_NC

    assert np.isfinite(x_NCK).all()
    theta = np.zeros(x_NCK.shape[2])
    value, p_NC = gain(theta)
    for _ in range(_STEPS):
        mean_NK = np.einsum("nc,nck->nk", p_NC, x_NCK)
        gradient = weight_N @ (true_NK - mean_NK) - _RIDGE * theta
        squares = _squares(x_NCK, p_NC * weight_N[:, None])
        hessian = squares - mean_NK.T @ (mean_NK * weight_N[:, None]) + _RIDGE * np.eye(len(theta))
        step = np.linalg.solve(hessian, gradient)
        while True:
            after, p_NC = gain(theta + step)
            if after >= value or np.abs(step).max() < _SMALLEST:
                break
            step /= 2
        theta, value = theta + step, after
        if np.abs(step).max() < _SMALLEST:
            break
    return theta


def _squares(x_NCK: np.ndarray, weight_NC: np.ndarray) -> np.ndarray:
    """The weighted sum of products of features [K, K], of some cases at a time, since all weighted ones would take as
    much memory as the features."""
    found = np.zeros((x_NCK.shape[2], x_NCK.shape[2]))
    for first in range(0, len(x_NCK), _TOGETHER):
        x = x_NCK[first : first + _TOGETHER].reshape(-1, x_NCK.shape[2])
        found += x.T @ (x * weight_NC[first : first + _TOGETHER].reshape(-1, 1))
    return found


def publisher_errors(
    scores_NC: np.ndarray, mask_NC: np.ndarray, voices: Voices, speaker_N: np.ndarray, publishers: int, rate: float
) -> np.ndarray:
    """Each publisher's estimated share of wrong claims [publishers].

    `speaker_N` says which publisher makes each claim. `rate` is the share of wrong claims that the scores were fitted
    for, where every publisher's estimate starts.
    """
    error = np.full(publishers, rate)
    claims = np.bincount(speaker_N, minlength=publishers)
    for _ in range(_PRIOR_ROUNDS):
        wrong_N = 1 - posteriors(scores_NC, mask_NC, voices, speaker_N, error, rate)[:, 0]
        wrong = np.bincount(speaker_N, weights=wrong_N, minlength=publishers)
        overall = wrong.sum() / max(1, len(wrong_N))
        share = (wrong + _PRIOR_STRENGTH * overall) / (claims + _PRIOR_STRENGTH)
        error = np.clip(rate * share / max(1e-12, overall), _FEWEST_ERRORS, _MOST_ERRORS)
    return error


def posteriors(
    scores_NC: np.ndarray, mask_NC: np.ndarray, voices: Voices, speaker_N: np.ndarray, error: np.ndarray, rate: float
) -> np.ndarray:
    """Probabilities of the candidates of each case [N, C], given how often each publisher errs."""
    odds = np.log((1 - error) / error) - np.log((1 - rate) / rate)
    own = scores_NC.copy()
    np.add.at(own, (voices.case, voices.candidate), voices.word * odds[voices.who])
    own[:, 0] += odds[speaker_N]
    return softmax(own, mask_NC)


def softmax(scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Probabilities [..., C] from scores [..., C], none for what is masked out."""
    scores = scores if mask is None else np.where(mask, scores, -np.inf)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def concatenated(several: Sequence[Voices], cases: Sequence[int]) -> Voices:
    """Voices of several runs of cases, of which `cases` gives the sizes, as of one."""
    starts = np.cumsum([0, *cases[:-1]])
    return Voices(
        np.concatenate([voices.case + start for voices, start in zip(several, starts, strict=True)]),
        np.concatenate([voices.candidate for voices in several]),
        np.concatenate([voices.who for voices in several]),
        np.concatenate([voices.word for voices in several]),
    )
