"""Two ways of writing one value agree; two values do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.curate.validate.slots.readings import agree, finer, keys, read


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("19.6 million", "19,625,353"),
        ("1.08 billion", "1,075,047,440"),
        ("5,077,000", "5,076,732"),
        ("4.10", "4.1"),
        ("26 July 1847", "July 26, 1847"),
        ("English (official), Dutch", "Dutch, English (official)"),
        ("presidential republic", "Presidential republic."),
        ("Obama", "Barack Obama"),
        ("seventy-eight years", "78.4 years"),
        ("about two hundred and three million", "202,600,000"),
        ("One million", "1,274,000"),
        ("93,000 km²", "93,000 sq km"),
        ("89,110 square miles", "230,800 sq km"),
        ("5,895 m", "19,341 feet"),
    ],
)
def test_the_same_in_other_words(one, other):
    assert agree(read(one), read(other))
    assert agree(read(other), read(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("19.6 million", "20,172,332"),
        ("19,625,353", "19,625,354"),
        ("2000", "2004"),
        ("26 July 1847", "26 July 1848"),
        ("UTC+5", "UTC+6"),
        ("8 50 S, 13 13 E", "8 50 N, 13 13 E"),
        ("presidential republic", "parliamentary republic"),
        ("Barack Obama", "Michelle Bachelet"),
        ("12", "thirteen members"),
        ("seventy-eight", "79.4"),
        ("sixty million", "60"),
        ("93,000 square miles", "93,000 sq km"),
        ("40 miles", "40 years"),
        ("20 °C", "68 °C"),
    ],
)
def test_another_value(one, other):
    assert not agree(read(one), read(other))


@given(st.integers(10**6, 10**9))
def test_a_rounded_number_agrees_with_what_it_was_rounded_from(number):
    exact, rounded = read(f"{number:,}"), read(f"{number / 1e6:.1f} million")
    assert agree(exact, rounded)
    assert set(keys(exact)) & set(keys(rounded))
    assert finer(exact, rounded) or exact.number == rounded.number


@given(st.text(max_size=40))
def test_any_text_agrees_with_itself(text):
    reading = read(text)
    assert agree(reading, reading)
    assert keys(reading)
