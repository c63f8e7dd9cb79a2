"""The plain baseline of natural-language inference: how many of a claim's words the evidence has, whether its numbers
are there, and whether one of the two denies what the other says."""

from collections.abc import Callable, Iterator, Sequence

from troth import __version__
from troth.curate.records import EvidenceRow, Stance, short_hash
from troth.curate.validate.verifiers.protocol import Judgement, Question
from troth.curate.validate.verifiers.words import Word, alike, opposite, words

_OVERLAP = 0.4
"""Share of a claim's words that a passage must have to be compared."""


def lexical_score(claim: str, evidence: str) -> float:
    """From -1 (contradicted) to 1 (said); 0 where the words say neither."""
    ours, theirs = words(claim), words(evidence)
    content = [word for word in ours if not word.small and not word.denies]
    if not content:
        return 0.0
    overlap = sum(found(word, theirs) for word in content) / len(content)
    numbers = [word for word in content if word.number is not None]
    wrong = any(not found(word, theirs) for word in numbers)
    denied = (sum(word.denies for word in ours) + sum(word.denies for word in theirs)) % 2
    turned = any(opposite(a.stem, b.stem) and not found(a, theirs) for a in content for b in theirs)
    score = 2 * overlap - 1
    if score > 0 and (denied or turned):
        score = -score
    return max(-1.0, score - wrong)


def found(word: Word, among: list[Word]) -> bool:
    """Whether a word, or one that means the same, is among others."""
    if word.number is not None:
        return any(other.number == word.number for other in among)
    return any(alike(word.stem, other.stem) for other in among)


class LexicalVerifier:
    """A verifier that compares words."""

    name = "lexical"
    prompt_hash = ""

    @property
    def model_hash(self) -> str:
        return short_hash(self.name, __version__)

    def judge(self, questions: Sequence[Question]) -> list[Judgement | None]:
        return [weigh_passages(question, lexical_score, _OVERLAP) for question in questions]


def weigh_passages(
    question: Question, score: Callable[[str, str], float], overlap: float, certain: float = 0.25
) -> Judgement | None:
    """Score the claim against what each document says, and take the mean, weighted by how surely it speaks of the same
    thing. None where no passage has `overlap` of the claim's words; below `certain` there is not enough evidence."""
    claim = question.sentence
    ours = [word for word in words(claim) if not word.small]
    total = weight = 0.0
    strongest = (0.0, "")
    for passage, likeness in passages(question.evidence):
        theirs = words(passage)
        if not ours or sum(found(word, theirs) for word in ours) < overlap * len(ours):
            continue
        value = score(claim, passage)
        weight += likeness
        total += likeness * value
        if abs(value) * likeness >= abs(strongest[0]):
            strongest = value * likeness, passage
    if not weight:
        return None
    mean = total / weight
    stance: Stance = "not_enough_evidence"
    if abs(mean) >= certain:
        stance = "supported" if mean > 0 else "refuted"
    return Judgement(mean, stance, "", strongest[1])


def passages(evidence: Sequence[EvidenceRow]) -> Iterator[tuple[str, float]]:
    """What each document says, its passages joined, with its greatest likeness."""
    spans: dict[str, list[EvidenceRow]] = {}
    for row in evidence:
        spans.setdefault(row.doc_sha, []).append(row)
    for rows in spans.values():
        yield " ".join(row.span for row in rows), max(row.likeness for row in rows)
