"""What a verifier is: questions in, at most one judgement each out; any object with these members is one.

Exact checkers, natural-language inference and judges behind an endpoint differ only in what they look at.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from troth.curate.records import ClaimRow, EvidenceRow, Stance, VerdictRow, short_hash


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


def verdict_rows(
    verifier: Verifier, questions: Sequence[Question], judgements: Sequence[Judgement | None],
    calibrated: Callable[[float], float], generation: int,
) -> Iterator[VerdictRow]:  # fmt: skip
    """The ledger's rows of one verifier; `calibrated` turns its raw scores into probabilities of truth."""
    for question, judgement in zip(questions, judgements, strict=True):
        if judgement is None:
            continue
        yield VerdictRow(
            claim_id=question.claim.claim_id,
            verifier=verifier.name,
            model_hash=verifier.model_hash,
            prompt_hash=verifier.prompt_hash,
            evidence_hash=evidence_hash(question),
            stance=judgement.stance,
            raw_score=judgement.raw_score,
            p_calibrated=calibrated(judgement.raw_score),
            generation=generation,
            answer=judgement.answer,
            note=judgement.note,
        )


def evidence_hash(question: Question) -> str:
    """Names the set of passages that a judgement was made from; "" where there were none."""
    return short_hash(*sorted(row.ev_id for row in question.evidence)) if question.evidence else ""
