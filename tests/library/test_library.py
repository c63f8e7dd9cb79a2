"""The library and its key fit together, and the questions are worded as no page is."""

import re
from collections import Counter

import pytest

from troth.curate.collect import collect
from troth.evaluate.questions import read_key
from troth.system import load_system

_WORD = re.compile(r"[\w'’.,-]*\w")


@pytest.fixture(scope="module")
def pages():
    return {d.source: d for d in collect(load_system("nano", ['data.sources=["library"]']).data).documents}


@pytest.fixture(scope="module")
def questions():
    return read_key()


def _pattern(text: str) -> list[str]:
    """Words in lower case, runs of names and numbers masked: what is left is the pattern of the sentence."""
    words = _WORD.findall(text)
    masked = ["*" if w[0].isdigit() or (w[0].isupper() and i) else w.lower() for i, w in enumerate(words)]
    return [w for i, w in enumerate(masked) if w != "*" or i == 0 or masked[i - 1] != "*"]


def test_there_are_80_to_120_pages_by_several_publishers_and_years_in_six_formats(pages):
    assert 80 <= len(pages) <= 120
    assert len({p.publisher for p in pages.values()}) >= 6
    assert len({p.published[:4] for p in pages.values()}) >= 10
    endings = {re.sub(r"#\d+$", "", source).rpartition(".")[2] for source in pages}
    assert endings == {"md", "html", "txt", "jsonl", "csv", "pdf"}


def test_every_statement_of_the_key_stands_on_its_page(pages, questions):
    for question in questions:
        for statement in question.statements:
            assert statement["sentence"] in pages[statement["page"]].text
            assert statement["value"] in statement["sentence"]


def test_facts_stand_in_about_three_places_in_different_words(questions):
    for question in questions:
        written = [s for s in question.statements if "reprint" not in s]
        assert 2 <= len(written) <= 4
        assert len({s["page"] for s in written}) == len(written)
        assert len({s["sentence"] for s in written}) == len(written)


def test_errors_are_of_five_kinds_and_two_true_statements_stand_against_each(questions):
    kinds = Counter(s["wrong"]["kind"] for q in questions for s in q.statements if "wrong" in s)
    assert set(kinds) == {"wrong_entity", "moved_number", "superseded", "misconception", "unit_or_date"}
    corrupted = [q for q in questions if q.corrupted]
    assert len(questions) == 600
    assert len(corrupted) == 150
    for question in corrupted:
        assert len({s["page"] for s in question.statements if "wrong" not in s}) >= 2


def test_no_page_holds_a_question(pages):
    assert not any("?" in page.text for page in pages.values())


def test_the_questions_sentence_patterns_occur_on_no_page(pages, questions):
    """No sentence of a page has the pattern of a question, and none even begins as one does."""
    sentences = [s for page in pages.values() for s in re.split(r"(?<=[.!])\s+|\n\n", page.text)]
    patterns = [_pattern(sentence) for sentence in sentences]
    whole = {" ".join(pattern) for pattern in patterns}
    openings = {" ".join(pattern[:4]) for pattern in patterns}
    for question in questions:
        words = _pattern(question.question)
        assert " ".join(words) not in whole, question.question
        assert " ".join(words[:4]) not in openings, question.question
