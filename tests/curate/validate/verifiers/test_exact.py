"""What exact checkers find in sentences, and where they keep silent."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.curate.validate.verifiers.arithmetic import arithmetic
from troth.curate.validate.verifiers.build import CHECKS
from troth.curate.validate.verifiers.dates import dates
from troth.curate.validate.verifiers.exact import ExactChecker
from troth.curate.validate.verifiers.numbers import parse
from troth.curate.validate.verifiers.ranges import ranges
from troth.curate.validate.verifiers.units import units

RIGHT = {
    arithmetic: [
        "12 + 7 is 19.",
        "A third of 90 is 30.",
        "15% of 200 is 30.",
        "Two thirds of 90 students are 60 students.",
        "Natalia sold 48/2 = <<48/2=24>>24 clips.",
        "The sum of 12 and 7 is 19.",
        "Twelve times twelve equals 144.",
        "2/3 = 0.67, or cut off, 2/3 = 0.66.",
        "1/2 + 1/4 = 3/4",
        "(2 + 3) × 4 = 20",
        "20 divided by 8 is 2.5.",
        "1.44 + 2.04 = 3.5",
        "She bought 12 apples + 7 apples = 19 apples.",
    ],
    units: [
        "The trail is 5 miles (8 km) long.",
        "Water boils at 100 °C (212 °F).",
        "It lies about 1,000 km (600 miles) away.",
        "He is 5 feet 9 inches (1.75 m) tall.",
        "A farm of 3 million acres (1.2 million hectares).",
        "The tank holds 12 gallons (55 litres).",
        "The tank holds 12 gallons (45 litres).",
    ],
    dates: [
        "On Friday, 13 October 2017, it rained.",
        "July 20, 1969 was a Sunday.",
        "He was born in Ulm in 1879 and died in Princeton in 1955 at the age of 76.",
        "She reigned from 1837 to 1901, 63 years.",
    ],
    ranges: ["Ethnic groups: A 45%, B 30%, C 20%, other 5%"],
}
WRONG = {
    arithmetic: [
        ("12 + 7 is 20.", "20", "19"),
        ("A third of 90 is 31.", "31", "30"),
        ("15% of 200 is 40.", "40", "30"),
        ("Natalia sold <<48/2=25>>25 clips.", "25", "24"),
        ("The sum of 1,200 and 900 is 2,200.", "2,200", "2,100"),
        ("Twelve times twelve equals 145.", "145", "144"),
        ("1/2 + 1/4 = 2/4", "2/4", "3/4"),
        ("It cost $12 x 4 = $50.", "50", "48"),
        ("1.5 + 2.5 = 4.9", "4.9", "4.0"),
    ],
    units: [
        ("The trail is 5 miles (80 km) long.", "80", "8"),
        ("Water boils at 100 °C (220 °F).", "220", "212"),
        ("They are 100 miles (200 km) apart.", "200", "161"),
        ("He is 5 feet 9 inches (2.75 m) tall.", "2.75", "1.75"),
    ],
    dates: [
        ("July 20, 1969 was a Monday.", "Monday", "Sunday"),
        ("Albert was born in 1879 and died in 1955 aged 86.", "86", ""),
        ("Ada was born on 10 December 1815 and died on 27 November 1852, aged 46.", "46", "36"),
        ("The treaty was signed on 31 June 1950.", "31", ""),
        ("It opened on February 30, 1999.", "30", ""),
        ("She reigned from 1837 to 1901, 73 years.", "73", "64"),
        ("In 1900 it began and, 30 years later, in 1950, it ended.", "30", "50"),
        ("He served from 1945 to 1939.", "1939", ""),
    ],
    ranges: [
        ("About 120% of the population can read.", "120", ""),
        ("The town lies at 95°N.", "95", ""),
        ("It was cooled to −300 °C.", "−300", ""),
        ("The juice has a pH of 19.", "19", ""),
        ("It has a minimum of 5 m and a maximum of 3 m.", "3", ""),
    ],
}
SILENT = {
    arithmetic: [
        "x + 7 = 20",
        "4x + 12 = 56",
        "It is not true that 12 + 7 is 20.",
        "If 12 + 7 were 20, we would be done.",
        "There were 6.02 × 10 23 = many molecules.",
        "3 weeks * 2 = 42 days",
        "He left at 6:00 + 18 hours = 24:00.",
        "25 / 1/3 = 75",
        "In 1914-18 is 5 the answer?",
        "He earned $2.50 - $2.24 = 26 cents.",
        "17/3 = 5 and 2/3 loads",
        "In binary 10 + 10 = 100.",
        "See section 3.2 + 4 = figure 9",
    ],
    units: [
        "The trail is 5 miles (9 km) long.",
        "It weighs 8 g (0.25 oz).",
        "Heat it by 1 degree Celsius (or 1 kelvin).",
        "A distance of 5 m (16 kg)",
        "from 20 °C to 34 °C (68 °F to 93 °F)",
    ],
    dates: [
        "He was born in 1879 and at the age of 20 moved to Bern; he died in 1955.",
        "On Thursday, 4 July 1776, they met.",
        "Hammurabi ruled from 1792 to 1750 BC.",
        "There is no February 30.",
        "May 40 people come?",
    ],
    ranges: [
        "Output grew to 120% of the average.",
        "Languages: A 98%, B 36%, C 8%, other 2%",
        "The lens turns by 95°.",
    ],
}


@pytest.mark.parametrize(("check", "sentence"), [(check, text) for check, texts in RIGHT.items() for text in texts])
def test_what_is_right_is_supported(check, sentence):
    found = list(check(sentence))
    assert found
    assert {one.stance for one in found} == {"supported"}


@pytest.mark.parametrize(
    ("check", "sentence", "value", "answer"), [(check, *row) for check, rows in WRONG.items() for row in rows]
)
def test_what_is_wrong_is_refuted(check, sentence, value, answer):
    (found,) = [one for one in check(sentence) if one.stance == "refuted"]
    assert (sentence[found.start : found.end], found.answer) == (value, answer)
    assert found.note


@pytest.mark.parametrize(("check", "sentence"), [(check, text) for check, texts in SILENT.items() for text in texts])
def test_what_is_unsure_is_left_alone(check, sentence):
    assert not [one for one in check(sentence) if one.stance == "refuted"]


def test_a_claim_is_judged_by_its_own_value(ask):
    checker = ExactChecker("units", units)
    sentence = "The 3 trails are each 5 miles (80 km) long."
    first, distance, wrong = checker.judge([ask(sentence, "3"), ask(sentence, "5 miles"), ask(sentence, "80 km")])
    assert first is None
    assert distance is None
    assert (wrong.stance, wrong.answer, wrong.raw_score) == ("refuted", "8 km", -1.0)


def test_a_value_that_stands_twice_needs_its_place(ask):
    checker = ExactChecker("arithmetic", arithmetic)
    sentence = "He has 20 books, and 12 + 7 is 20."
    assert checker.judge([ask(sentence, "20")]) == [None]
    assert checker.judge([ask(sentence, "20", start=7)]) == [None]
    (found,) = checker.judge([ask(sentence, "20", start=sentence.rindex("20"))])
    assert found.answer == "19"


@given(st.text(alphabet="0123456789+-*/=()^.,% $x×÷abis\n<>°CFkm", max_size=60))
def test_no_text_breaks_a_check(text):
    for check in CHECKS.values():
        for found in check(text):
            assert 0 <= found.start < found.end <= len(text)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(-3, 3))
def test_sums_are_right_or_wrong(a, b, off):
    (found,) = arithmetic(f"We know that {a:,} + {b:,} = {a + b + off:,}.") if a + b + off >= 0 else [None]
    if found is None:
        return
    assert found.stance == ("refuted" if off else "supported")
    if off:
        assert parse(found.answer).value == a + b


@given(st.decimals(0, 10**6, places=2), st.booleans())
def test_numbers_are_written_as_they_were(value, grouped):
    text = f"{value:,.2f}" if grouped else f"{value:.2f}"
    number = parse(text)
    assert number.value == Fraction(value)
    assert parse(number.written(number.value)).value == number.value
