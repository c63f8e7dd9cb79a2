"""From findings to edits: the smallest edit that the policy allows, and it can always be undone."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.records import CorrectionRow, Decision, Finding, TimedFinding
from troth.curate.refine.apply import apply, revert
from troth.curate.refine.part import refine_part
from troth.curate.refine.policy import corrections
from troth.curate.validate.precedence import with_timelines
from troth.system import CurateTable

TEXT = "São Tomé has two islands.  The capital of Peru is Cusco. It rains little there."
PAGE = Document("atlas.md", "documents", TEXT, publisher="The Atlas", published="2012-05-01")


def finding(sentence: str, value: str, **about) -> Finding:
    """What was found of a value in a sentence of the page."""
    start = TEXT.encode().index(sentence.encode())
    at = start + sentence.encode().index(value.encode())
    end = start + len(sentence.encode())
    place = {"byte_start": start, "byte_end": end, "object_start": at, "object_end": at + len(value.encode())}
    axes = {"stance": "refuted", "time": "undated", "nature": "fact", "p_stated": 0.05} | about
    return Finding("occ", PAGE.sha, PAGE.source, claim_id="claim", **place, **axes)  # fmt: skip


CUSCO = finding("The capital of Peru is Cusco.", "Cusco", answer="Lima", p_answer=0.9, agreed_by="two publishers")


def after(*findings: Finding, **policy) -> str:
    return apply(PAGE, corrections(PAGE, findings, CurateTable(**policy))).text


def test_a_wrong_value_is_replaced_and_nothing_else():
    assert after(CUSCO) == TEXT.replace("Cusco", "Lima")


def test_nothing_is_replaced_on_the_word_of_one_verifier():
    assert after(replace(CUSCO, agreed_by=""), unmendable="keep") == TEXT


@pytest.mark.parametrize(("heard", "left"), [(True, []), (False, [CUSCO])])
def test_a_timeline_that_hears_others_has_the_last_word_even_where_it_cannot_decide(heard, left):
    open_ = TimedFinding(**vars(CUSCO) | {"stance": "not_enough_evidence", "agreed_by": ""}, heard=heard)
    assert with_timelines([CUSCO], [open_]) == [*left, open_]


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("drop", TEXT.replace("The capital of Peru is Cusco. ", "")),
        ("label", TEXT.replace("Cusco.", "Cusco. (Other sources do not confirm this.)")),
        ("keep", TEXT),
    ],
)
def test_what_cannot_be_mended_goes_by_the_policy(policy, text):
    assert after(replace(CUSCO, answer=""), unmendable=policy) == text


def test_nothing_is_dropped_on_the_word_of_one_source_but_for_what_can_be_computed():
    alone = replace(CUSCO, answer="", agreed_by="", verdict="agreement")
    assert after(alone) == TEXT
    assert "Cusco" not in after(replace(alone, verdict="arithmetic"))


def test_nothing_is_replaced_by_what_is_less_likely():
    assert after(replace(CUSCO, p_stated=0.5, p_answer=0.4)) == TEXT


def test_a_superseded_fact_keeps_its_words_and_gains_its_date():
    old = replace(CUSCO, stance="supported", time="superseded", newer_on="2020-01-01", newer_text="Lima is its capital")
    assert "As of 2012, the capital of Peru is Cusco. By 2020: Lima is its capital." in after(old)
    assert after(old, superseded="keep") == TEXT


def test_a_sentence_that_tells_its_date_gains_only_what_is_newer():
    told = replace(PAGE, text=TEXT.replace("of Peru is", "of Peru in 2012 is"))
    moved = {at: getattr(CUSCO, at) + len(" in 2012") for at in ("byte_end", "object_start", "object_end")}
    since = {"time": "superseded", "newer_on": "2020-01-01", "newer_text": "Lima is its capital"}
    old = replace(CUSCO, stance="supported", **moved, **since)
    (edit,) = corrections(told, [old], CurateTable())
    assert (edit.kind, edit.new) == ("dated", f"{edit.old} By 2020: Lima is its capital.")
    assert not list(corrections(told, [replace(old, newer_text="")], CurateTable()))


def test_a_contested_claim_is_attributed():
    disputed = replace(CUSCO, stance="not_enough_evidence", nature="contested")
    assert "According to The Atlas, the capital of Peru is Cusco." in after(disputed)
    assert after(disputed, contested="keep") == TEXT


def test_a_sentence_gets_the_edit_of_its_least_credible_claim():
    other = finding("The capital of Peru is Cusco.", "Peru", p_stated=0.2, answer="Chile", p_answer=0.7, agreed_by="x")
    assert after(other, CUSCO) == TEXT.replace("Cusco", "Lima")


def test_corrections_for_another_text_are_refused():
    (edit,) = corrections(PAGE, [CUSCO], CurateTable())
    with pytest.raises(ValueError, match=r"atlas\.md: bytes"):
        apply(replace(PAGE, text="x" + TEXT), [edit])


@given(st.data())
def test_whatever_was_edited_the_original_comes_back(data):
    text = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    page, edits = replace(PAGE, text=text), []
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        place = len(text[:start].encode()), len(text[:end].encode())
        new = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=9))
        edits.append(CorrectionRow("o", "c", "s", "d", *place, text[start:end], new, "corrected", "", 0.1, ""))
    assert revert(apply(page, edits), edits) == page


def test_a_part_is_refined_as_a_stream(tmp_path):
    pages = [replace(PAGE, source=f"{number}.md") for number in range(5)]
    Parts(tmp_path, "duplicates").write(0, "documents", Document, pages)
    found = [replace(CUSCO, source_id=f"{number}.md") for number in (1, 3)]
    Parts(tmp_path, "validate").write(0, "findings", Finding, found)
    refine_part(0, tmp_path, CurateTable(), {"The Atlas": 1.25})
    own = Parts(tmp_path, "refine")
    texts = [page.text for page in own.read(0, "documents", Document)]
    assert [("Lima" in text) for text in texts] == [False, True, False, True, False]
    assert [edit.source_id for edit in own.read(0, "corrections", CorrectionRow)] == ["1.md", "3.md"]
    assert [page.weight for page in own.read(0, "documents", Document)] == [1, 1.25, 1, 1.25, 1]
    assert [(one.subject, one.label) for one in own.read(0, "decisions", Decision)] == [("claim", "corrected")]
    assert own.is_done(0)


def test_findings_without_their_document_are_named(tmp_path):
    Parts(tmp_path, "duplicates").write(0, "documents", Document, [PAGE])
    Parts(tmp_path, "validate").write(0, "findings", Finding, [replace(CUSCO, source_id="lost.md")])
    with pytest.raises(ValueError, match=r"lost\.md: has rows"):
        refine_part(0, tmp_path, CurateTable(), {})
