"""From verdicts to corrections: replace a value, date a superseded one, or drop what cannot be mended."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from troth.curate.document import Document
from troth.curate.validate.sentences import Sentence
from troth.curate.validate.validate import Verdict

_PRESENT = re.compile(r"\b(?:is|are|has|have|stands?|holds?|remains?|counts?|shows?|belongs?|serves?|wears?)\b")
_ORDINARY = {"The", "A", "An", "In", "At", "Its", "It", "Of", "On", "There", "Among"}
_SUPERSEDED_AFTER = 4
_DROP_BELOW = 0.15


@dataclass(frozen=True)
class Correction:
    """One edit of one sentence: `new` is empty where it was dropped. `reverified_by` names what else agreed."""

    verdict: Verdict
    kind: Literal["corrected", "dated", "dropped"]
    old: str
    new: str
    reverified_by: str

    @property
    def sentence(self) -> Sentence:
        """Where the edit is made."""
        return self.verdict.claim.sentence


def propose(verdicts: Iterable[Verdict], act_above: float) -> list[Correction]:
    """At most one edit a sentence: that of its least credible claim."""
    worst: dict[Sentence, Verdict] = {}
    for verdict in verdicts:
        sentence = verdict.claim.sentence
        if verdict.stance == "refuted" and (sentence not in worst or verdict.p_stated < worst[sentence].p_stated):
            worst[sentence] = verdict
    found = (_edit(verdict, act_above) for verdict in worst.values())
    return [correction for correction in found if correction is not None]


def apply(documents: list[Document], corrections: list[Correction]) -> list[Document]:
    """The documents with all edits made; a document without edits is returned as it is."""
    edits: dict[Document, list[Correction]] = {}
    for correction in corrections:
        edits.setdefault(correction.sentence.document, []).append(correction)
    return [_edited(document, edits[document]) if document in edits else document for document in documents]


def _edit(verdict: Verdict, act_above: float) -> Correction | None:
    claim = verdict.claim
    old = claim.sentence.text
    agreed = _second_opinion(verdict)
    if verdict.best.text is not None and verdict.p_best > act_above and agreed:
        years = _superseded(verdict)
        if years:
            return Correction(verdict, "dated", old, _dated(verdict, *years), agreed)
        return Correction(verdict, "corrected", old, claim.with_value(verdict.best.text), agreed)
    if verdict.p_stated < _DROP_BELOW:
        return Correction(verdict, "dropped", old, "", "")
    return None


def _second_opinion(verdict: Verdict) -> str:
    """What besides the judge prefers the new value: two publishers, or the examiner; empty if nothing does."""
    publishers = {witness.sentence.document.publisher for witness in verdict.best.witnesses}
    if len(publishers) > 1:
        return "two publishers"
    asked = dict(verdict.examined)
    stated = verdict.claim.value.text
    if verdict.best.text in asked and stated in asked and asked[str(verdict.best.text)] > asked[stated]:
        return "examiner"
    return ""


def _superseded(verdict: Verdict) -> tuple[str, str] | None:
    """The year of a page whose present-tense value only newer pages contradict, and the year by which they do; None
    where it is just wrong."""
    claim = verdict.claim
    year = claim.sentence.document.published[:4]
    rivals = [witness.sentence.document.published[:4] for witness in verdict.best.witnesses]
    if not year or not all(rivals) or claim.value.kind in ("year", "date") or not _PRESENT.search(claim.sentence.text):
        return None
    newer = min(rivals)
    return (year, newer) if int(year) + _SUPERSEDED_AFTER <= int(newer) else None


def _dated(verdict: Verdict, year: str, newer: str) -> str:
    """The sentence with its year, followed by what the closest newer page says in its own words."""
    sentence = verdict.claim.sentence.text
    word = re.match(r"\w+", sentence)
    ordinary = verdict.claim.value.start > 0 and word is not None and word.group() in _ORDINARY
    body = sentence[0].lower() + sentence[1:] if ordinary else sentence
    closest = max(verdict.best.witnesses, key=lambda witness: witness.mutual + witness.likeness)
    stop = "" if body.endswith((".", "!")) else "."
    return f"As of {year}, {body}{stop} By {newer}: {closest.sentence.text}"


def _edited(document: Document, corrections: list[Correction]) -> Document:
    text = document.text
    for correction in sorted(corrections, key=lambda c: -c.sentence.start):
        end = correction.sentence.end
        if not correction.new:
            end += len(text[end:]) - len(text[end:].lstrip(" "))
        text = text[: correction.sentence.start] + correction.new + text[end:]
    return replace(document, text=text)
