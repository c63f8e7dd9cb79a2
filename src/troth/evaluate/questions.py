"""Held-out questions with four options each, in sentence patterns that no page uses."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from troth.evaluate.score import Scorer

_BINS = 10


@dataclass(frozen=True)
class Question:
    """A fact of the key. `statements` are the sentences that state it: page, sentence, value, and what is wrong."""

    id: str
    domain: str
    question: str
    options: tuple[str, ...]
    answer: str
    statements: tuple[dict[str, Any], ...]

    @property
    def corrupted(self) -> bool:
        """Whether some page states the fact wrongly."""
        return any("wrong" in statement for statement in self.statements)


def read_key(path: Path | None = None) -> list[Question]:
    """Questions of a key file, by default the library's. Raises ValueError naming the line that does not fit."""
    source = path or files("troth.library") / "key.jsonl"
    questions = []
    for number, line in enumerate(source.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
            options = tuple(row["options"])
            if row["answer"] not in options:
                raise ValueError("the answer is not among the options")
            statements = tuple(row.get("statements", ()))
            questions.append(
                Question(row["id"], row.get("domain", ""), row["question"], options, row["answer"], statements)
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{source}, line {number}: {error!r}") from error
    if not questions:
        raise ValueError(f"{source}: holds no questions; expected JSON lines with id, question, options and answer")
    return questions


@dataclass(frozen=True)
class Answer:
    """The option a model finds likeliest, and its probability among the options."""

    question: Question
    chosen: str
    confidence: float

    @property
    def true(self) -> bool:
        """Whether it is the right one."""
        return self.chosen == self.question.answer


def ask(scorer: Scorer, questions: Sequence[Question]) -> list[Answer]:
    """Put each question, followed by a blank for the answer, and compare the options' probabilities there."""
    blanks = [(f"{question.question} ", ".", question.options) for question in questions]
    answers = []
    for question, scores in zip(questions, scorer.fill(blanks), strict=True):
        top = max(scores)
        total = sum(math.exp(score - top) for score in scores)
        answers.append(Answer(question, question.options[scores.index(top)], 1 / total))
    return answers


@dataclass(frozen=True)
class Truthfulness:
    """Shares of true answers (0 to 1), wrong answers on corrupted facts, and the expected calibration error."""

    untouched: float
    corrupted: float
    wrong_on_corrupted: int
    untouched_count: int
    corrupted_count: int
    calibration_error: float
    reliability: list[tuple[float, float, int]]


def truthfulness(answers: Sequence[Answer]) -> Truthfulness:
    """Figures of a set of answers; `reliability` lists mean confidence, share true and count of each tenth."""
    touched = [answer.true for answer in answers if answer.question.corrupted]
    untouched = [answer.true for answer in answers if not answer.question.corrupted]
    bins: list[list[Answer]] = [[] for _ in range(_BINS)]
    for answer in answers:
        bins[min(_BINS - 1, int(answer.confidence * _BINS))].append(answer)
    reliability = [
        (sum(a.confidence for a in members) / len(members), sum(a.true for a in members) / len(members), len(members))
        for members in bins if members
    ]  # fmt: skip
    error = sum(abs(confidence - share) * count for confidence, share, count in reliability) / max(1, len(answers))
    return Truthfulness(
        untouched=sum(untouched) / max(1, len(untouched)),
        corrupted=sum(touched) / max(1, len(touched)),
        wrong_on_corrupted=len(touched) - sum(touched),
        untouched_count=len(untouched),
        corrupted_count=len(touched),
        calibration_error=error,
        reliability=reliability,
    )
