"""What a verifier is: questions in, at most one judgement each out; any object with these members is one.

Exact checkers, natural-language inference and judges behind an endpoint differ only in what they look at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from troth.curate.records import ClaimRow, EvidenceRow, Stance


@dataclass(frozen=True)
class Question:
    """A claim with the sentence that makes it, the passages that bear on it, and the ISO date of its page or "".

    `start` is where the claim's object stands in the sentence, or -1 where it is to be looked for.
    """

    claim: ClaimRow
    sentence: str
    evidence: tuple[EvidenceRow, ...] = ()
    published: str = ""
    start: int = -1

    @property
    def place(self) -> tuple[int, int] | None:
        """Where the object stands in the sentence; None where it stands nowhere or in several places."""
        text, value = self.sentence, self.claim.object
        if not value:
            return None
        start = self.start
        if start < 0:
            start = text.find(value)
            if start < 0 or text.find(value, start + 1) >= 0:
                return None
        return start, start + len(value)


@dataclass(frozen=True)
class Judgement:
    """What a verifier thinks of a claim. The higher `raw_score`, the truer the claim, on the verifier's own scale;
    `answer` is what belongs in the object's place ("" if unknown), `note` says why in words."""

    raw_score: float
    stance: Stance
    answer: str = ""
    note: str = ""


class Verifier(Protocol):
    """Anything that judges claims. The hashes tell which model and which prompt spoke ("" where there is none)."""

    @property
    def name(self) -> str: ...

    @property
    def model_hash(self) -> str: ...

    @property
    def prompt_hash(self) -> str: ...

    def judge(self, questions: Sequence[Question]) -> list[Judgement | None]:
        """One answer a question, in order; None where there is nothing to say."""
        ...
