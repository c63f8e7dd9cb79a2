"""The rules of Gopher, FineWeb and C4 give the values that their definitions give."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from troth.curate.filter.c4 import c4
from troth.curate.filter.fineweb import fineweb
from troth.curate.filter.gopher import quality
from troth.curate.filter.repetition import MAX_REPEATED_GRAMS, MAX_TOP_GRAM, repetition
from troth.curate.filter.words import Words

SENTENCE = "The heart is a muscle that pumps blood through the body of an animal."


def values(rules, text: str) -> dict[tuple[str, bool], float]:
    return {(one.rule, one.least): one.value for one in rules(Words(text))}


def broken(rules, text: str) -> list[str]:
    return [one.rule for one in rules(Words(text)) if one.broken]


def test_gopher_on_prose():
    text = "\n".join([SENTENCE] * 10)
    found = values(quality, text)
    assert found["gopher_words", True] == 140
    assert found["gopher_alphabetic", True] == pytest.approx(140 / 150)  # full stops count as words here
    assert found["gopher_stop_words", True] == 3
    assert broken(quality, text) == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("gopher_words", SENTENCE),
        ("gopher_hash_signs", f"{SENTENCE} # # # # # " * 10),
        ("gopher_bullet_lines", f"- {SENTENCE}\n" * 10),
        ("gopher_ellipsis_lines", f"{SENTENCE[:-1]}…\n" * 10),
        ("gopher_alphabetic", f"{SENTENCE} 12 13 14 15 16 17 18 19 20 " * 10),
        ("gopher_stop_words", "Hearts pump blood through bodies each day. " * 20),
        ("gopher_mean_word_length", "pneumonoultramicroscopicsilicovolcanoconiosis the and " * 60),
    ],
)
def test_gopher_names_what_is_wrong(rule, text):
    assert rule in broken(quality, text)


def test_stop_words_are_asked_of_english_only():
    text = "Das Herz ist ein Muskel, der das Blut durch den Körper pumpt. " * 10
    assert "gopher_stop_words" in broken(quality, text)
    assert "gopher_stop_words" not in [one.rule for one in quality(Words(text), english=False)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["sun", "moon", "a", "star", "of", "light"]), min_size=1, max_size=80))
def test_repetition_as_gopher_defines_it(words):
    text = " ".join(words)
    found = {one.rule: one.value for one in repetition(Words(text))}
    for n in MAX_TOP_GRAM:
        runs = Counter(" ".join(words[at : at + n]) for at in range(len(words) - n + 1))
        top, times = runs.most_common(1)[0] if runs else ("", 0)
        assert found[f"top_{n}_gram"] == pytest.approx(len(top) * times / len(text))
    for n in MAX_REPEATED_GRAMS:
        seen: set[str] = set()
        at = repeated = 0
        while at <= len(words) - n:
            run = "".join(words[at : at + n])
            if run in seen:
                repeated += len(run)
                at += n
            else:
                seen.add(run)
                at += 1
        assert found[f"repeated_{n}_grams"] == pytest.approx(repeated / len(text))


def test_duplicate_paragraphs_and_lines():
    found = {one.rule: one.value for one in repetition(Words("one two\n\nthree\n\none two\nthree\n\nthree"))}
    assert found["duplicate_paragraphs"] == 1 / 4
    assert found["duplicate_lines"] == 3 / 5
    assert found["duplicate_line_characters"] == pytest.approx((7 + 5 + 5) / 36)


def test_fineweb_counts_lines():
    text = "A title\n\nA sentence that ends.\nA sentence that ends.\nA longer line that goes on and on"
    found = values(fineweb, text)
    assert found["fineweb_punctuated_lines", True] == 2 / 4
    assert found["fineweb_short_lines", False] == 3 / 4
    assert found["fineweb_duplicate_line_characters", False] == pytest.approx(21 / (7 + 21 + 21 + 33))
    assert list(fineweb(Words("\n \n"))) == []


def test_c4_takes_out_lines_and_judges_the_rest():
    prose = [f"{SENTENCE} It has {n} chambers." for n in ("two", "three", "four")]
    script, cookies = "Turn on Javascript to read this.", "We make use of cookies here."
    left = c4("\n".join([prose[0], "", "Read on", script, prose[1], cookies, prose[2]]))
    assert left.text == "\n".join([prose[0], "", prose[1], prose[2]])
    assert [(line, one.rule) for line, one in left.gone] == [
        ("Read on", "c4_line_words"),
        (script, "c4_javascript"),
        (cookies, "c4_policy"),
    ]
    assert left.against == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f"{SENTENCE} " * 4, "c4_sentences"),
        (f"{SENTENCE}\n" * 6 + "if (x) { return the value; }", "c4_curly_bracket"),
        (f"{SENTENCE}\n" * 6 + "Lorem ipsum dolor sit amet.", "c4_lorem_ipsum"),
    ],
)
def test_c4_drops_pages(text, rule):
    assert [one.rule for one in c4(text).against] == [rule]


def test_c4_takes_out_citation_marks():
    text = "\n".join(f"{SENTENCE}[{n}]" for n in range(6))
    assert c4(text).text == "\n".join([SENTENCE] * 6)
