"""Questions and rephrasings: marked with what they derive from, and true to it."""

from troth.curate.document import Document
from troth.curate.refine.forms import question, questions, rephrased
from troth.curate.validate.statement import claim_row

TEXT = "The capital of Peru is Lima. About 33 million people lived there in 2019."
PAGE = Document("peru.md", "atlas", TEXT, title="Peru", published="2019-04-01", ancestors=(0,))


def claim(sentence: str, value: str):
    return claim_row(PAGE, sentence, sentence.index(value), sentence.index(value) + len(value), "name")


def test_a_statement_becomes_a_question_with_its_answer():
    assert question(claim("The capital of Peru is Lima.", "Lima")) == "What is the capital of Peru?"
    assert question(claim("The population was 33 million.", "33 million")) == "About Peru: What was the population?"
    blank = "What belongs in the blank? Peru fought ____ in 1879."
    assert question(claim("Peru fought Chile in 1879.", "Chile")) == blank


def test_questions_are_a_document_that_knows_where_it_comes_from():
    capital = claim("The capital of Peru is Lima.", "Lima")
    found = questions(PAGE, [capital, capital, claim("Its 40 museums are wonderful.", "40")])
    assert found.text == "Question: What is the capital of Peru?\nAnswer: Lima"
    assert (found.collection, found.derived_from, found.ancestors) == ("atlas-questions", PAGE.sha, (0,))
    assert questions(PAGE, [claim("Its 40 museums are wonderful.", "40")]) is None


def test_a_rephrasing_stays_where_it_says_the_same():
    told = rephrased(PAGE, lambda text: "In 2019 about 33 million people lived in Peru, whose capital is Lima.", 3)
    assert (told.ancestors, told.derived_from, told.collection) == ((0, 3), PAGE.sha, "atlas-rephrased")


def test_a_rephrasing_that_changes_a_figure_or_a_name_goes():
    false = "In 2019 about 35 million people lived in Peru, whose capital is Lima."
    for words in (false, "", TEXT, TEXT.replace("Lima", "Cusco")):
        assert rephrased(PAGE, lambda text, words=words: words, 3) is None
