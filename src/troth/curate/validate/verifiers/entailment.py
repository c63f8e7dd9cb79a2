"""Natural-language inference by a classifier that is handed in: what a passage says of a claim, as probabilities of
labels. Curation loads no network itself; `evaluate.entail` reads a model folder."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from troth.curate.records import Stance
from troth.curate.validate.verifiers.lexical import passages
from troth.curate.validate.verifiers.protocol import Judgement, Question

_SUPPORTS = ("entail", "support", "true", "consistent")
_REFUTES = ("contradict", "refute", "false", "inconsistent")
_LEAST = 1e-6


class Classifier(Protocol):
    """Anything that reads pairs of texts and gives the probabilities of its labels, the same labels for each pair."""

    @property
    def model_hash(self) -> str: ...

    def classify(self, pairs: Sequence[tuple[str, str]]) -> list[Mapping[str, float]]:
        """For each (passage, claim) the probability of each label."""
        ...


@dataclass(frozen=True)
class EntailmentVerifier:
    """A verifier that asks a classifier about the claim and what each document says; its raw score is the log-odds of
    support against contradiction, averaged over the documents by how surely they speak of the same thing."""

    classifier: Classifier

    name = "entailment"
    prompt_hash = ""

    @property
    def model_hash(self) -> str:
        return self.classifier.model_hash

    def judge(self, questions: Sequence[Question]) -> list[Judgement | None]:
        """Raises ValueError where the classifier's labels do not say which of them supports and which refutes."""
        asked = [(i, text, weight) for i, q in enumerate(questions) for text, weight in passages(q.evidence)]
        found = self.classifier.classify([(text, questions[i].sentence) for i, text, _ in asked])
        said: dict[int, list[tuple[float, float, float, str]]] = {}
        for (i, text, weight), answer in zip(asked, found, strict=True):
            said.setdefault(i, []).append((weight, *_sides(answer), text))
        return [_judgement(said[i]) if i in said else None for i in range(len(questions))]


def _judgement(said: list[tuple[float, float, float, str]]) -> Judgement | None:
    total = sum(weight for weight, *_ in said)
    if not total:
        return None
    supports = sum(weight * p for weight, p, _, _ in said) / total
    refutes = sum(weight * p for weight, _, p, _ in said) / total
    stance: Stance = "not_enough_evidence"
    if max(supports, refutes) > 1 - supports - refutes:
        stance = "supported" if supports > refutes else "refuted"
    telling = max(said, key=lambda one: one[0] * abs(one[1] - one[2]))
    return Judgement(math.log(max(supports, _LEAST) / max(refutes, _LEAST)), stance, "", telling[3])


def _sides(answer: Mapping[str, float]) -> tuple[float, float]:
    """The probabilities of support and of contradiction; with a label for support alone, what is left contradicts."""
    denied = [label for label in answer if any(word in label.lower() for word in _REFUTES)]
    said = [label for label in answer if label not in denied and any(word in label.lower() for word in _SUPPORTS)]
    said = [label for label in said if not label.lower().startswith(("not", "un", "non"))]
    if len(said) != 1 or len(denied) > 1:
        expected = "expected one that says entailment or supported, and one contradiction or refuted"
        raise ValueError(f"labels {', '.join(answer)}: {expected}")
    supports = answer[said[0]]
    if denied:
        return supports, answer[denied[0]]
    return supports, 1 - supports if len(answer) == 2 else 0.0
