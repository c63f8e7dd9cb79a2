"""Exact checkers: what a text says that can be computed, as findings with their places, and as verdicts on claims.

A check is a plain function from a text to findings. It is silent unless sure.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from troth import __version__
from troth.curate.records import Stance, short_hash
from troth.curate.validate.verifiers.protocol import Judgement, Question


@dataclass(frozen=True)
class Checked:
    """The value at `start:end` of a text was checked; `answer` is what belongs there ("" if unknown) and `note` how
    that follows. `certainty`, from 0 to 1, is lower where another value of the text may be the wrong one."""

    start: int
    end: int
    stance: Stance
    answer: str
    note: str
    certainty: float = 1.0


Check = Callable[[str], Iterable[Checked]]
_HEDGED = re.compile(
    r"\b(?:not|never|no longer|(?:is|was|are|were|has|have) no|cannot|"
    r"wrong\w*|incorrect\w*|mistake\w*|mistook|false\w*|suppos\w+|imagin\w+|pretend\w*|"
    r"fiction\w*|myth\w*|jok(?:e|es|ed|ing|ingly)|errors?|erroneous\w*|contradict\w*|nonsens\w*|absurd\w*|impossib\w+|"
    r"instead of|misprint\w*|typos?|would|if|unless|guess\w*|claims? that|claimed|binary|modulo|mod|hexadecimal|octal|"
    r"base)\b|n['’]t\b|≠|!=",
    re.IGNORECASE,
)


def hedged(text: str) -> bool:
    """Whether a sentence may state what it does not mean: it denies, supposes, quotes an error, or counts in another
    base."""
    return bool(_HEDGED.search(text))


def agree(start: int, end: int, note: str) -> Checked:
    """The value is right."""
    return Checked(start, end, "supported", "", note)


def differ(start: int, end: int, answer: str, note: str, certainty: float = 1.0) -> Checked:
    """The value is wrong."""
    return Checked(start, end, "refuted", answer, note, certainty)


@dataclass(frozen=True)
class ExactChecker:
    """A verifier that asks a check about each sentence. It judges a claim where the checked value is its object or lies
    within it; what a check finds of other values of the sentence is theirs."""

    name: str
    check: Check

    @property
    def model_hash(self) -> str:
        return short_hash(self.name, __version__)

    prompt_hash = ""

    def judge(self, questions: Sequence[Question]) -> list[Judgement | None]:
        known: dict[str, list[Checked]] = {}
        answers = []
        for question in questions:
            if question.sentence not in known:
                known[question.sentence] = list(self.check(question.sentence))
            answers.append(_judgement(question, known[question.sentence]))
        return answers


def _judgement(question: Question, findings: list[Checked]) -> Judgement | None:
    """The object's wrong finding, if there is one, else its right one."""
    place = question.place
    if not findings or place is None:
        return None
    start, end = place
    inside = [f for f in findings if (start <= f.start and f.end <= end) or (f.start <= start and end <= f.end)]
    if not inside:
        return None
    worst = min(inside, key=lambda f: f.certainty if f.stance == "supported" else -f.certainty)
    answer = ""
    if worst.answer and start <= worst.start and worst.end <= end:
        answer = question.sentence[start : worst.start] + worst.answer + question.sentence[worst.end : end]
    score = worst.certainty if worst.stance == "supported" else -worst.certainty
    return Judgement(score, worst.stance, answer, worst.note)
