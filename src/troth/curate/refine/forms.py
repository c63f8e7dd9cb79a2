"""Further forms of the same knowledge for training: questions with their answers, and rephrased text.

Rephrased text beside the original makes training faster (Maini et al. 2024, WRAP), as long as it says the same: a
rephrasing stays only where every figure, date and name of the original is still there and no other came in. Each form
says what it derives from, and which model generations had a hand in it, so that it never becomes evidence for them.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from troth.curate.document import Document
from troth.curate.records import ClaimRow
from troth.curate.validate.statement import BLANK
from troth.curate.validate.values import find_values

REPHRASE = (
    "Tell the paragraph in your own words, in plain encyclopaedic English. Keep every figure, date, unit and name "
    "exactly as it is written, add nothing, leave nothing out. Answer with the paragraph alone."
)
_COPULA = re.compile(rf"(?P<what>(?:The|Its|A|An)\b[^,;:]{{3,120}}?) (?P<be>is|was|are|were) (?:the |an? )?{BLANK}\.?")


def questions(document: Document, claims: Iterable[ClaimRow]) -> Document | None:
    """The document's claims as questions and answers, in the collection `NAME-questions`; None where none is fit.

    A claim `The capital of Peru is Lima.` is asked for as `What is the capital of Peru?`, any other as its sentence
    with a blank. What is no fact, or says `it` without naming whom, is not asked for.
    """
    asked = dict.fromkeys(
        f"Question: {question(claim)}\nAnswer: {claim.object}"
        for claim in claims
        if claim.checkworthy and claim.nature == "fact" and claim.subject
    )
    if not asked:
        return None
    return replace(
        document,
        source=f"{document.source}?questions",
        collection=f"{document.collection}-questions",
        text="\n\n".join(asked),
        derived_from=document.sha,
    )


def question(claim: ClaimRow) -> str:
    """The question that a claim's object answers."""
    about = "" if claim.subject.lower() in claim.relation.lower() else f"About {claim.subject}: "
    if copula := _COPULA.fullmatch(claim.relation):
        what = copula["what"]
        return f"{about}What {copula['be']} {what[0].lower()}{what[1:]}?"
    return f"{about}What belongs in the blank? {claim.relation.replace(BLANK, '____')}"


def rephrased(document: Document, write: Callable[[str], str], generation: int) -> Document | None:
    """The document in the words of a model of `generation`, in the collection `NAME-rephrased`: the paragraphs that
    `write` told otherwise without changing a value; None where there is none."""
    kept = []
    for paragraph in document.text.split("\n\n"):
        told = write(paragraph).strip()
        if told and told != paragraph.strip() and _values(told) == _values(paragraph):
            kept.append(told)
    if not kept:
        return None
    return replace(
        document,
        source=f"{document.source}?rephrased",
        collection=f"{document.collection}-rephrased",
        text="\n\n".join(kept),
        derived_from=document.sha,
        ancestors=tuple(sorted({*document.ancestors, generation})),
    )


def _values(text: str) -> set[str]:
    """Figures, dates and names; a capital that may only open a sentence says nothing."""
    opening = {match.group(1) for match in re.finditer(r"(?:^|[.!?]\s+)([A-Z][\w'’-]*)", text)}
    return {value.key for value in find_values(text) if value.kind != "name" or value.text not in opening}
