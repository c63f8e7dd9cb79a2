"""A small verifier trained on contradictions that curation makes from the corpus itself: logistic regression on hashed
features of claim and passage, in one file."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from troth.curate.validate.verifiers.contradictions import Pair
from troth.curate.validate.verifiers.lexical import weigh_passages
from troth.curate.validate.verifiers.linear import Rows, fit
from troth.curate.validate.verifiers.pairs import BUCKETS, features
from troth.curate.validate.verifiers.protocol import Judgement, Question

_RIDGE, _FORMAT = 1.0, 1
_OVERLAP = 0.3
"""Share of a claim's words that a passage must have to be asked about."""


@dataclass(frozen=True)
class TrainedVerifier:
    """A verifier that weighs the features of pairs; its raw score is the log-odds that a passage supports the claim."""

    weights: np.ndarray

    name = "trained"
    prompt_hash = ""

    @cached_property
    def model_hash(self) -> str:
        return hashlib.sha256(self.weights.astype("<f4").tobytes()).hexdigest()[:16]

    def score(self, claim: str, passage: str) -> float:
        """Log-odds that the passage supports the claim rather than contradicts it."""
        return float(self.weights[features(claim, passage)].sum())

    def judge(self, questions: Sequence[Question]) -> list[Judgement | None]:
        return [weigh_passages(question, self.score, _OVERLAP, certain=0.5) for question in questions]

    def save(self, path: Path) -> None:
        """Write the weights, of which most are zero, as one `.npz` file."""
        used = np.flatnonzero(self.weights)
        path.parent.mkdir(parents=True, exist_ok=True)
        about = json.dumps({"format": _FORMAT, "buckets": BUCKETS})
        with path.open("wb") as file:
            np.savez_compressed(file, about=about, buckets=used, weights=self.weights[used].astype("<f4"))

    @classmethod
    def load(cls, path: Path) -> "TrainedVerifier":
        """Read what `save` wrote. Raises ValueError naming the file if it is none."""
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                if about != {"format": _FORMAT, "buckets": BUCKETS}:
                    raise ValueError(f"made for {about}")
                weights = np.zeros(BUCKETS)
                weights[file["buckets"]] = file["weights"]
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{path}: not a trained verifier of this version ({error})") from error
        return cls(weights)


def train_verifier(pairs: Sequence[Pair]) -> TrainedVerifier:
    """Fit a verifier to labelled pairs, of both labels. Raises ValueError where one is missing."""
    labels = np.array([pair.supported for pair in pairs], dtype=float)
    if not len(labels) or labels.min() == labels.max():
        raise ValueError("a verifier needs supported and contradicted pairs to learn from")
    rows = Rows.of([features(pair.claim, pair.passage) for pair in pairs])
    weights = fit(rows, labels, BUCKETS, _RIDGE)
    return TrainedVerifier(weights.astype(np.float32).astype(float))
