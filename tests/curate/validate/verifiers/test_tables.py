"""Claims against tables."""

import pytest

from troth.curate.document import Document
from troth.curate.validate.verifiers.tables import TableLookup, index_tables

TABLES = {
    "Elements": ["Element: Helium; Symbol: He; Atomic number: 2; Boiling point (K): 4.22",
                 "Element: Iron; Symbol: Fe; Atomic number: 26; Boiling point (K): 3134"],
    "Population": ["Country: France; Code: FRA; Year: 2010; Value: 65027512",
                   "Country: France; Code: FRA; Year: 2011; Value: 65342775"],
    "Countries": ["Country: France; Capital: Paris; Currency: euro", "Country: Peru; Capital: Lima; Currency: sol"],
}  # fmt: skip


@pytest.fixture
def lookup(tmp_path):
    documents = [
        Document(f"{title}.csv", "tables", "\n".join(rows), title=title, kind="table") for title, rows in TABLES.items()
    ]
    assert index_tables(tmp_path / "tables.sqlite", documents) == 6
    return TableLookup(tmp_path / "tables.sqlite")


@pytest.mark.parametrize(
    ("sentence", "value", "answer"),
    [
        ("The atomic number of iron is 27.", "27", "26"),
        ("The boiling point of helium is 5 K.", "5 K", "4 K"),
        ("In 2011 the population of France was 85.3 million.", "85.3 million", "65.3 million"),
        ("The capital of France is Lyon.", "Lyon", "Paris"),
        ("Cusco is the capital of Peru.", "Cusco", "Lima"),
    ],
)
def test_another_value_is_refuted_with_the_cell(lookup, ask, sentence, value, answer):
    (found,) = lookup.judge([ask(sentence, value)])
    assert (found.stance, found.answer) == ("refuted", answer)
    assert ".csv" in found.note


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("Iron has an atomic number of 26.", "26"),
        ("The boiling point of helium is −268.9 °C.", "268.9 °C"),
        ("In 2011 the population of France was 65.3 million.", "65.3 million"),
        ("Lima is the capital of Peru.", "Lima"),
    ],
)
def test_the_same_value_is_supported_in_other_units_and_digits_too(lookup, ask, sentence, value):
    (found,) = lookup.judge([ask(sentence, value)])
    assert found.stance == "supported"


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("The population of France was 65 million.", "65 million"),  # of which year?
        ("The capital of France, Paris, lies on the Seine.", "Seine"),
        ("Marie met the king in the capital of Peru.", "Marie"),
        ("It is not true that the capital of France is Lyon.", "Lyon"),
        ("The atomic number of gold is 79.", "79"),
    ],
)
def test_what_is_not_surely_meant_is_left_alone(lookup, ask, sentence, value):
    assert lookup.judge([ask(sentence, value)]) == [None]


def test_subject_and_relation_of_the_claim_are_enough(lookup, ask):
    question = ask("Its capital is Lyon.", "Lyon", subject="France", relation="capital")
    (found,) = lookup.judge([question])
    assert found.answer == "Paris"
    assert found.stance == "refuted"
