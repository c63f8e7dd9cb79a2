"""Words are split as people and spaCy's English rules do it, and equal words have equal hashes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.curate.filter.words import Words, among, distinct, grams, hash_words


def split(text: str) -> list[str]:
    words = Words(text)
    return [text[start:end] for start, end in zip(words.starts, words.ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat, it sat.", ["The", "cat", ",", "it", "sat", "."]),
        ("It cost 1,200.50 in 2019.", ["It", "cost", "1,200.50", "in", "2019", "."]),
        ("Don’t go", ["Don", "’t", "go"]),
        ("a well-known 20-year plan", ["a", "well", "-", "known", "20-year", "plan"]),
        ("Wait... what?!", ["Wait", "...", "what", "?", "!"]),
        ('He said "no" (twice).', ["He", "said", '"', "no", '"', "(", "twice", ")", "."]),
        ("the end.Next", ["the", "end", ".", "Next"]),
        ("", []),
        (" \n\t ", []),
    ],
)
def test_words_of_a_text(text, words):
    assert split(text) == words


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_character_but_blanks_is_in_one_word(text):
    assert "".join(split(text)) == "".join(text.split())


def test_the_same_word_has_the_same_hash_wherever_it_stands():
    words = Words("Rain falls. RAIN fell, and rain will fall.")
    rain = [at for at, word in enumerate(split(words.text)) if word.lower() == "rain"]
    assert len(set(words.lower[rain].tolist())) == 1
    assert len(set(words.exact[rain].tolist())) == 3
    assert among(words.lower, hash_words(["rain"])).nonzero()[0].tolist() == rain


@given(st.lists(st.sampled_from(["a", "b", "ab", "ba"]), max_size=30), st.integers(1, 4))
def test_runs_of_words_are_equal_where_their_hashes_are(listed, n):
    found = grams(Words(" ".join(listed)).lower, n).tolist()
    runs = [tuple(listed[at : at + n]) for at in range(len(listed) - n + 1)]
    assert len(set(found)) == len(set(runs)) == len(distinct(grams(Words(" ".join(listed)).lower, n)))
    assert [found.index(one) for one in found] == [runs.index(one) for one in runs]


def test_a_lexicon_holds_single_words():
    with pytest.raises(ValueError, match="so-called"):
        hash_words(["plain", "so-called"])
