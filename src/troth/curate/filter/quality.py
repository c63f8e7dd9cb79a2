"""A learned judge of quality: logistic regression on hashed words and pairs of words, trained here on good and bad
texts (as FineWeb-Edu and DCLM do with larger models; Penedo et al. 2024, Li et al. 2024).

Good and bad are what the user names or, where nothing is named, what passes all rules against what fails one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from troth.curate.filter.finding import Finding
from troth.curate.filter.words import Words, distinct, grams
from troth.curate.rows import write_whole

BITS = 18
"""2^18 weights."""
FEWEST = 50
"""Texts of each kind from which training makes sense."""
_EPOCHS, _RATE, _DECAY = 6, 0.5, 1e-5

Features = npt.NDArray[np.int64]


@dataclass(frozen=True)
class QualityModel:
    """`weights` of shape [2^18] and their `bias`; `auc` is how often it put a good text of those kept back above a bad
    one."""

    weights: npt.NDArray[np.float32]
    bias: float
    auc: float
    examples: int

    def probability(self, features: Features) -> float:
        """Of the text being a good one."""
        if not len(features):
            return 0.5
        score = float(self.weights[features].sum()) / np.sqrt(len(features)) + self.bias
        return float(1 / (1 + np.exp(-np.clip(score, -30, 30))))

    def judge(self, words: Words, limit: float) -> Finding:
        """The probability that a text is good, which must reach `limit`."""
        return Finding("learned_quality", self.probability(features(words)), limit, least=True)


def features(words: Words) -> Features:
    """Places of a text's words and pairs of words among the weights, each once."""
    lower = words.lower
    both = np.concatenate((lower, grams(lower, 2)))
    return distinct(both >> np.uint64(64 - BITS)).astype(np.int64)


def train(good: Sequence[Features], bad: Sequence[Features], seed: int) -> QualityModel:
    """Fit by AdaGrad (Duchi et al. 2011), both kinds weighing alike; every fifth text is kept back to tell the `auc`.

    Raises ValueError where there are fewer than 50 of either.
    """
    if min(len(good), len(bad)) < FEWEST:
        raise ValueError(
            f"a learned quality model wants {FEWEST} good and {FEWEST} bad texts; "
            f"there are {len(good)} and {len(bad)}: name examples in curate.quality_examples, or leave it out"
        )
    examples = [(one, 1.0, 0.5 / len(good)) for one in good] + [(one, 0.0, 0.5 / len(bad)) for one in bad]
    random = np.random.default_rng(seed)
    order = random.permutation(len(examples))
    back, used = order[::5], np.delete(order, np.s_[::5])
    weights, squares = np.zeros(1 << BITS, np.float32), np.full(1 << BITS, 1e-3, np.float32)
    bias, bias_squares, typical = 0.0, 1e-3, float(len(examples))
    for _ in range(_EPOCHS):
        for number in random.permutation(used):
            places, target, share = examples[number]
            if not len(places):
                continue
            scale = 1 / np.sqrt(len(places))
            score = float(weights[places].sum()) * scale + bias
            slope = (1 / (1 + np.exp(-np.clip(score, -30, 30))) - target) * share * typical
            gradient = slope * scale + _DECAY * weights[places]
            squares[places] += gradient**2
            weights[places] -= _RATE * gradient / np.sqrt(squares[places])
            bias_squares += slope**2
            bias -= _RATE * slope / np.sqrt(bias_squares)
    model = QualityModel(weights, bias, 0.0, len(examples))
    scores = np.array([model.probability(examples[number][0]) for number in back])
    targets = np.array([examples[number][1] for number in back])
    return QualityModel(weights, bias, _auc(scores, targets), len(examples))


def _auc(scores: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]) -> float:
    """Area under the receiver operating characteristic; ties count half."""
    high, low = scores[targets > 0], scores[targets == 0]
    if not len(high) or not len(low):
        return 0.5
    ranked = np.sort(low)
    below = np.searchsorted(ranked, high, "left") + np.searchsorted(ranked, high, "right")
    return float(below.mean() / 2 / len(low))


def save(model: QualityModel, folder: Path) -> None:
    """Write `weights.npy` and `model.json`, which comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "weights.npy", model.weights)
    write_whole(folder / "model.json", json.dumps({"bias": model.bias, "auc": model.auc, "examples": model.examples}))


def load(folder: Path) -> QualityModel:
    """What `save` wrote. Raises ValueError where it is not there."""
    try:
        about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        return QualityModel(np.load(folder / "weights.npy"), about["bias"], about["auc"], about["examples"])
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{folder}: no quality model ({error})") from error
