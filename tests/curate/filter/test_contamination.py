"""Text of benchmarks goes: the paragraph that shares thirteen words, or the whole of a text that is mostly such."""

import json

import pytest

from troth.curate.document import Document
from troth.curate.filter.contamination import contamination, read_benchmarks
from troth.curate.filter.document import Aids, filter_document
from troth.curate.filter.words import Words
from troth.system import CurateTable

QUESTION = "A train leaves the town at nine and goes sixty miles an hour; when does it reach the coast?"
OWN = (
    "The harbour was built in the spring of that year by workers from the hills, who had never seen the sea before, "
    "and who went home again when the first ships had left for the islands in the south."
)
SETTINGS = CurateTable(rules="none")


@pytest.fixture
def benchmarks(tmp_path):
    (tmp_path / "b.jsonl").write_text(json.dumps({"question": QUESTION, "choices": ["at ten", "at noon"]}) + "\n")
    return read_benchmarks((str(tmp_path / "b.jsonl"),))


def test_a_quoted_question_takes_its_paragraph_along(benchmarks):
    text = "\n\n".join([*[OWN] * 3, f"Question 5. {QUESTION.upper()}", OWN])
    filtered = filter_document(Document("a", "b", text), SETTINGS, Aids(benchmarks))
    assert filtered.document is not None
    assert filtered.document.text == "\n\n".join([OWN] * 4)
    (decision,) = filtered.decisions
    assert (decision.label, decision.rule, decision.value) == ("changed", "benchmark", 19)
    assert decision.text == f"Question 5. {QUESTION.upper()}"


def test_a_text_that_is_the_benchmark_goes(benchmarks):
    filtered = filter_document(Document("a", "b", f"{OWN}\n\n{QUESTION}"), SETTINGS, Aids(benchmarks))
    assert filtered.document is None
    assert filtered.decisions[-1].value == pytest.approx(19 / 58, abs=0.03)


def test_twelve_words_in_common_are_no_proof(benchmarks):
    twelve = " ".join(QUESTION.split()[:12])
    assert contamination(Words(f"{twelve} today. {OWN}"), benchmarks).paragraphs == []


def test_short_questions_are_looked_for_whole(tmp_path):
    (tmp_path / "b.csv").write_text("question\nWhich river is the longest one in Europe\n")
    short = read_benchmarks((str(tmp_path / "b.csv"),))
    assert contamination(Words(f"{OWN} Which river is the longest one in Europe?"), short).paragraphs
    assert not contamination(Words(f"{OWN} Which river is the longest in Europe?"), short).paragraphs


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"curate\.benchmarks: .*none\.txt"):
        read_benchmarks((str(tmp_path / "none.txt"),))
