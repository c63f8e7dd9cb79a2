"""Claims with their subject, time, place and nature, read off the words of a sentence."""

import pytest

from troth.curate.document import Document
from troth.curate.validate.nature import is_checkworthy, nature_of
from troth.curate.validate.statement import canonical, claim_row
from troth.curate.validate.when import valid_time

PAGE = Document("peru.md", "documents", "", title="Peru", published="2019-04-01")


@pytest.mark.parametrize(
    ("sentence", "held"),
    [
        ("The bridge opened in 1932.", ("1932", "1932")),
        ("The bridge opened on 19 March 1932.", ("1932-03-19", "1932-03-19")),
        ("The bridge opened on March 19, 1932.", ("1932-03-19", "1932-03-19")),
        ("It was rebuilt in March 1932.", ("1932-03", "1932-03")),
        ("He ruled from 1804 to 1815.", ("1804", "1815")),
        ("He ruled between June 1804 and 1815.", ("1804-06", "1815")),
        ("The war (1914–1918) changed Europe.", ("1914", "1918")),
        ("She has led the party since 2005.", ("2005", "")),
        ("It was the capital until 1960.", ("", "1960")),
        ("The trade grew in the 19th century.", ("1801", "1900")),
        ("The town shrank in the 1980s.", ("1980", "1989")),
        ("The capital is Lima.", ("2019-04-01", "")),
        ("The capital was Cusco.", ("", "")),
        ("As of 2015, the capital is Lima.", ("2015", "")),
    ],
)
def test_when_a_statement_holds(sentence, held):
    assert valid_time(sentence, "2019-04-01") == held


@pytest.mark.parametrize(
    ("sentence", "nature", "checkworthy"),
    [
        ("The Amazon is 6,400 km long.", "fact", True),
        ("Lima is the most beautiful city in Peru.", "opinion", False),
        ("Lima's 40 museums are wonderful.", "opinion", True),
        ("Some historians argue that the city is older.", "contested", True),
        ("The border is disputed by both countries.", "contested", True),
        ("Where is the capital of Peru?", "fact", False),
        ("Click here to read more about Peru.", "fact", False),
        ("Its best-known dish is ceviche.", "fact", True),
    ],
)
def test_facts_opinions_and_what_is_contested(sentence, nature, checkworthy):
    assert (nature_of(sentence), is_checkworthy(sentence)) == (nature, checkworthy)


def claim(sentence: str, value: str, page: Document = PAGE):
    start = sentence.index(value)
    return claim_row(page, sentence, start, start + len(value), "name")


def test_a_claim_has_a_subject_a_relation_and_an_object():
    found = claim("The population of Chile was 11 million in 1980.", "11 million")
    assert (found.subject, found.object, found.valid_from) == ("Chile", "11 million", "1980")
    assert found.relation == "The population of Chile was … in 1980."


def test_a_sentence_without_a_name_speaks_of_its_page():
    assert claim("The population is 31 million.", "31 million").subject == "Peru"
    assert claim("It exports copper to China.", "copper").subject == "Peru"


def test_where_it_happened():
    assert claim("The treaty was signed in Paris by Franklin.", "Franklin").place == "Paris"
    assert claim("The treaty was signed in Paris in March 1783.", "Paris").place == ""


def test_the_same_words_are_one_claim_and_another_subject_is_another():
    page = Document("chile.md", "documents", "", title="Chile", published="2019-04-01")
    here = claim("The population is 31 million.", "31 million")
    assert here.claim_id == claim("the population  is 31 million", "31 million").claim_id
    assert here.claim_id != claim("The population is 31 million.", "31 million", page).claim_id
    assert here.claim_id != claim("The population is 32 million.", "32 million").claim_id


def test_canonical_text_keeps_words_alone():
    assert canonical("  The “Rímac”  flows – there. ") == canonical('the "Rímac" flows - there')
