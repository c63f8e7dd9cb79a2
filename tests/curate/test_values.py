"""Sentences, values and claims as curation finds them."""

from hypothesis import given
from hypothesis import strategies as st

from troth.curate.document import Document
from troth.curate.validate.claims import find_claims, name_words
from troth.curate.validate.sentences import sentences
from troth.curate.validate.values import comparable, find_values, same


def _values(text: str, names: frozenset[str] = frozenset({"Brooklyn"})) -> list[tuple[str, str]]:
    return [(value.kind, value.text) for value in find_values(text, names)]


def _one(text: str):
    (value,) = find_values(text, set())
    return value


def test_values_of_a_sentence():
    assert _values("Brooklyn Bridge opened in 1883.") == [("name", "Brooklyn Bridge"), ("year", "1883")]
    assert _values("The peak is 8,849 metres high.") == [("quantity", "8,849 metres")]
    assert _values("The treaty was signed on 4 July 1776 in Paris.")[0] == ("date", "4 July 1776")
    assert ("quantity", "three scripts") in _values("The stone carries three scripts.")
    assert ("name", "Museum of Modern Art") in _values("It hangs at the Museum of Modern Art.")


def test_numbers_in_words_are_whole():
    """Else an edit would leave half of one standing: seventy-78.4 years."""
    assert _values("It has seventy-eight years.") == [("quantity", "seventy-eight years")]
    assert same(_one("about seventy-eight years"), _one("about 78 years"))
    assert same(_one("about one hundred and sixty-seven million"), _one("about 167 million"))
    assert same(_one("about one million"), _one("about 1 million"))
    assert _values("One of them has no hundreds.") == []


def test_the_first_word_is_a_name_only_if_the_corpus_writes_it_large_inside_sentences():
    assert _values("In Oslo it rains.") == [("name", "Oslo")]


def test_a_date_ends_a_name():
    assert _values("Since AD 80 the Colosseum was open.") == [("year", "AD 80"), ("name", "Colosseum")]


def test_equal_and_comparable_values():
    assert same(_one("about 8,849 metres"), _one("about 8849 metres"))
    assert same(_one("the Curie"), _one("the Marie Curie"))
    assert comparable(_one("about 8,849 metres"), _one("about 8,849 feet"))
    assert comparable(_one("about 56 national parks"), _one("about 63 parks"))
    assert not comparable(_one("about 56 metres"), _one("about 63 years"))
    assert not comparable(_one("about 56 metres"), _one("in 1883"))


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=300))
def test_spans_always_point_at_their_text(text):
    document = Document("a", "documents", text)
    for sentence in sentences(document):
        assert text[sentence.start : sentence.end] == sentence.text == sentence.text.strip()
        for value in find_values(sentence.text):
            assert sentence.text[value.start : value.end] == value.text


WHOLE = "Dr. Who saw J. S. Bach.", "It rained.", "He left at 3.5 km.", "Why not!"


@given(st.lists(st.sampled_from(WHOLE), max_size=8))
def test_sentences_are_split_where_people_end_them(parts):
    found = [sentence.text for sentence in sentences(Document("a", "documents", " ".join(parts)))]
    assert found == parts


def test_claims_leave_opinions_out_and_keep_their_place():
    document = Document("a", "documents", "Many call Lagos charming. Now the capital of Nigeria is Abuja.")
    claims = list(find_claims(document, name_words([document])))
    assert [(claim.value.text, claim.row().nature) for claim in claims] == [
        ("Lagos", "opinion"), ("Nigeria", "fact"), ("Abuja", "fact"),
    ]  # fmt: skip
    assert claims[2].row().claim_id != claims[1].row().claim_id


def test_when_a_figure_is_from_is_no_claim():
    text = "In Peru the rate is 3.2% (2016 est.), which (2016 prices) is more than in 2012. Bolivar died (1830)."
    document = Document("a", "documents", text)
    assert [claim.value.text for claim in find_claims(document, name_words([document]))] == [
        "Peru", "3.2%", "2012", "1830",
    ]  # fmt: skip
