"""From what was found to what is done: replace, date, attribute, label, drop, or leave alone.

A sentence gets one edit at most, that of its least credible claim. Nothing is replaced on the word of one verifier: the
new text must have a second one behind it.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby

from troth.curate.document import Document
from troth.curate.records import CorrectionRow, Finding
from troth.curate.refine import edit
from troth.curate.validate.opinions import EXACT
from troth.system import CurateTable

POLICY = "4"
"""Changes whenever the same findings would lead to other edits."""


def corrections(document: Document, findings: Iterable[Finding], settings: CurateTable) -> Iterator[CorrectionRow]:
    """At most one edit a sentence of a document, in the order of the text; `findings` are its own, in any order. Where
    the sentences of two verifiers overlap, the one that begins first counts."""
    text = document.text.encode()
    ordered = sorted(findings, key=lambda f: (f.byte_start, f.byte_end, f.p_stated, f.object_start))
    end = 0
    for (start, _), several in groupby(ordered, key=lambda f: (f.byte_start, f.byte_end)):
        found = (_correction(document, text, finding, settings) for finding in several if start >= end)
        edit_made = next(filter(None, found), None)
        if edit_made:
            yield edit_made
            end = edit_made.byte_end


def _correction(document: Document, text: bytes, found: Finding, settings: CurateTable) -> CorrectionRow | None:
    start, end = found.byte_start, found.byte_end
    old = text[start:end].decode()
    at = len(text[start : found.object_start].decode())
    till = len(text[start : found.object_end].decode())
    kind, new = _edited(document, old, at, till, found, settings)
    if not kind:
        return None
    if kind == "dropped":
        end += len(text) - end - len(text[end:].lstrip(b" "))
        old = text[start:end].decode()
    return CorrectionRow(
        found.occ_id, found.claim_id, found.source_id, found.doc_sha, start, end, old, new, kind, found.verdict,
        found.p_stated, found.agreed_by,
    )  # fmt: skip


def _edited(
    document: Document, old: str, at: int, till: int, found: Finding, settings: CurateTable
) -> tuple[str, str]:
    """Kind of the edit and the new sentence; no kind where the sentence stays."""
    if found.time == "superseded" and found.stance != "refuted":
        if settings.superseded == "keep" or not (document.published and found.agreed_by):
            return "", old
        new = edit.dated(old, at, document.published, found.newer_on, found.newer_text)
        return ("dated" if new != old else ""), new
    if found.nature == "contested":
        if settings.contested == "keep" or not document.publisher:
            return "", old
        return "attributed", edit.attributed(old, at, document.publisher)
    if found.stance != "refuted":
        return "", old
    if found.agreed_by and found.answer and found.p_answer > max(settings.act_above, found.p_stated):
        return "corrected", edit.corrected(old, at, till, found.answer)
    if found.p_stated < settings.drop_below and (found.agreed_by or found.verdict in EXACT):
        return {"drop": ("dropped", ""), "label": ("labelled", edit.labelled(old)), "keep": ("", old)}[
            settings.unmendable
        ]
    return "", old
