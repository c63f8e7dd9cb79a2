"""One part of the corpus refined: what was found in its documents becomes edits, and these the curated text."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.records import CorrectionRow, Finding
from troth.curate.refine.apply import apply
from troth.curate.refine.policy import corrections
from troth.system import CurateTable


def refine_part(part: int, out: Path, settings: CurateTable) -> None:
    """From `documents` of the stage `duplicates` and `findings` of `validate` to `documents` and `corrections`."""
    own = Parts(out, "refine")
    found = Parts(out, "validate").read(part, "findings", Finding)
    made: list[CorrectionRow] = []

    def refined() -> Iterator[Document]:
        for document, findings in with_findings(Parts(out, "duplicates").read(part, "documents", Document), found):
            edits = list(corrections(document, findings, settings))
            made.extend(edits)
            yield apply(document, edits)

    own.write(part, "documents", Document, refined())
    own.write(part, "corrections", CorrectionRow, made)
    own.finish(part)


def with_findings(
    documents: Iterable[Document], findings: Iterable[Finding]
) -> Iterator[tuple[Document, list[Finding]]]:
    """Each document with what was found in it; findings come in the order of the documents, which several may lack.

    Raises ValueError where a finding belongs to none of the documents that follow.
    """
    groups = groupby(findings, key=lambda finding: finding.source_id)
    source, group = next(groups, ("", iter(())))
    for document in documents:
        if document.source == source:
            yield document, list(group)
            source, group = next(groups, ("", iter(())))
        else:
            yield document, []
    if source:
        raise ValueError(f"{source}: has findings, but is not among the documents of its part")
