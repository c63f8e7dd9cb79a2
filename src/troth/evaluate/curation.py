"""How well curation did against a key that it never read: wrong statements caught, right ones left alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from troth.evaluate.questions import Question


@dataclass(frozen=True)
class CurationScore:
    """Counts over statements of the key on pages that survived deduplication. `caught` wrong ones were edited,
    `mended` of them now state the truth (or, superseded, their date); `false_alarms` are right ones that were edited.
    `by_kind` gives (caught, all) for each kind of error."""

    wrong: int
    caught: int
    mended: int
    right: int
    false_alarms: int
    by_kind: dict[str, tuple[int, int]]


def score_corrections(
    questions: Sequence[Question], corrections: Sequence[dict[str, Any]], pages: set[str]
) -> CurationScore:
    """Compare a ledger's corrections (source_id, old, new, kind) with the key; `pages` are the sources kept."""
    edits = {(row["source_id"], row["old"]): row for row in corrections}
    wrong = caught = mended = right = alarms = 0
    kinds: dict[str, list[int]] = {}
    for question in questions:
        for statement in question.statements:
            if statement["page"] not in pages:
                continue
            edit = edits.get((statement["page"], statement["sentence"]))
            if "wrong" not in statement:
                right += 1
                alarms += edit is not None
                continue
            tally = kinds.setdefault(statement["wrong"]["kind"], [0, 0])
            wrong, tally[1] = wrong + 1, tally[1] + 1
            if edit is not None:
                caught, tally[0] = caught + 1, tally[0] + 1
                true = question.answer.lower() in edit["new"].lower() and statement["value"] not in edit["new"]
                superseded = statement["wrong"]["kind"] == "superseded" and edit["kind"] == "dated"
                mended += true or superseded
    return CurationScore(wrong, caught, mended, right, alarms, {kind: (a, b) for kind, (a, b) in sorted(kinds.items())})
