from dataclasses import replace

import pytest

from troth.curate.document import Document
from troth.curate.filter import measures
from troth.curate.filter.document import Aids, filter_document
from troth.curate.filter.lenient import MIN_ALPHABETIC
from troth.curate.filter.words import Words
from troth.curate.records import Decision
from troth.system import CurateTable

ARTICLE = """The heart

The heart is a muscle that pumps blood through the body. In an adult it beats about seventy times in a minute, and it \
moves some five litres of blood in that time.

Blood leaves the left side of the heart by the aorta. It passes through smaller and smaller arteries until it reaches \
the capillaries, where it gives off oxygen and takes up what the tissue no longer needs.

The right side sends the blood on to the lungs. There it takes up oxygen again, and then it returns to the left side, \
so that a drop of blood passes through the heart twice on each round.

Doctors listen to the valves of the heart with a stethoscope. A valve that does not close well makes a murmur."""

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]


def page(text: str) -> Document:
    return Document("a.txt", "documents", text)


def drop_junk(document: Document, min_words: int) -> tuple[Document | None, list[Decision]]:
    filtered = filter_document(document, CurateTable(min_words=min_words), Aids())
    kept = filtered.document
    return (replace(kept, language="") if kept else None), filtered.decisions


def dropped_by(text: str) -> str:
    kept, drops = drop_junk(page(text), 20)
    assert kept is None
    reasons = [drop for drop in drops if drop.label == "dropped"]
    assert reasons[0].text == text
    return reasons[0].rule


def test_a_good_article_stays_as_it_is():
    document = page(ARTICLE)
    kept, drops = drop_junk(document, 20)
    assert kept == document
    assert drops == []


def test_one_fact_after_another_may_name_its_subject_each_time():
    told = {"population": "5,765,121", "area": "12,400 sq km", "median age": "31.1 years", "birth rate": "17.3",
            "life expectancy": "77.2 years", "growth rate": "1.6%", "fertility rate": "1.8", "jobless rate": "6.9%"}
    facts = page(" ".join(f"The {what} of Saint Perin was {value} in 2019." for what, value in told.items()))
    assert drop_junk(facts, 20) == (facts, [])


def test_too_few_words_by_the_limit_given():
    kept, drops = drop_junk(page("One two three."), 4)
    assert kept is None
    assert [(drop.rule, drop.value, drop.limit) for drop in drops] == [("few_words", 3, 4)]
    assert drop_junk(page("One two three."), 3)[0] is not None


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (
            "keyword_stuffing",
            (
                "Cheap flights to Rome are here. Book cheap flights today, for these are the best cheap flights that "
                "you can find. Our cheap flights go to Paris, and cheap flights go to Berlin. With cheap flights the "
                "whole family saves, and cheap flights are never late. Ask for cheap flights by phone or get your "
                "cheap flights in a shop."
            ),
        ),
        (
            "language",
            (
                "Das Herz ist ein Muskel, der das Blut durch den Körper pumpt. Bei einem Erwachsenen schlägt es etwa "
                "siebzig Mal in der Minute und bewegt dabei rund fünf Liter Blut. Das Blut verlässt die linke Seite "
                "des Herzens durch die große Schlagader und gelangt durch immer kleinere Adern bis in das Gewebe, wo "
                "es den Sauerstoff abgibt."
            ),
        ),
        (
            "lorem_ipsum",
            (
                "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore "
                "et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut "
                "aliquip ex ea."
            ),
        ),
        (
            "alphabetic",
            "12 34 56 78 90 11 22 33 44 55 66 77 88 99 10 20 30 40 50 60 total sum 12 14 15 16 17 18 19 20 21",
        ),
        ("mean_word_length", " ".join(["abcdefghijklmnopqrstuvwxyz"] * 15 + ["it"] * 10)),
        ("punctuated_lines", "\n\n".join(f"{n} things that you should know about the heart of a {n}" for n in NUMBERS)),
        (
            "repeated_lines",
            "\n\n".join(["The offer ends today and you should not miss it."] * 3 + [ARTICLE[11:320]] * 3),
        ),
        (
            "function_words",
            " ".join(f"{a}{b}ation" for a in ("form", "nat", "rel", "stat", "cre") for b in "abcdefghijkl"),
        ),
    ],
)
def test_each_rule_says_why(rule, text):
    assert dropped_by(text) == rule


BOILERPLATE = [
    "Home | About us | Contact | Search",
    "We use cookies to improve your experience. Accept all cookies",
    "By continuing to browse you agree to our use of cookies.",
    "Please enable JavaScript to view this page.",
    "© 2019 Field Press. All rights reserved.",
    "Subscribe to our weekly newsletter!",
    "Skip to main content",
    "Page 3 of 12",
]


@pytest.mark.parametrize("line", BOILERPLATE)
def test_boilerplate_goes_and_its_document_stays(line):
    kept, drops = drop_junk(page(f"{line}\n\n{ARTICLE}"), 20)
    assert kept is not None
    assert kept.text == ARTICLE
    assert [drop.text for drop in drops] == [line]


@pytest.mark.parametrize(
    "line",
    [
        "Under the directive of 2009, a site has to ask before it stores cookies that it does not need.",
        "JavaScript was written in ten days in May 1995.",
        "The ratio of protons | neutrons | electrons differs from atom to atom.",
        "Copyright protects a work for seventy years after the death of its author.",
        "The search for a home of their own took them about five years.",
    ],
)
def test_prose_about_such_things_stays(line):
    document = page(f"{ARTICLE}\n\n{line}")
    assert drop_junk(document, 20) == (document, [])


def test_a_page_of_nothing_but_boilerplate_goes_with_all_reasons():
    kept, drops = drop_junk(page("\n\n".join(BOILERPLATE)), 20)
    assert kept is None
    assert [drop.rule for drop in drops[-2:]] == ["page_number", "few_words"]


def test_a_table_of_facts_need_not_read_as_sentences():
    table = "\n\n".join(f"Order: {n}; Year: {1789 + 4 * n}; President: Name{n} Surname{n}" for n in range(40))
    assert drop_junk(page(table), 20) == (page(table), [])


@pytest.mark.parametrize("kind", ["code", "facts"])
def test_code_and_facts_are_exempt(kind):
    document = replace(page("x = 1\nx = 1\nx = 1\n" * 30), kind=kind)
    assert drop_junk(document, 20) == (document, [])


def test_one_value_just_past_its_limit_is_no_reason_and_far_past_is():
    words = ARTICLE.split()
    few, many = (" ".join([*map(str, range(100, 100 + numbers)), *words]) for numbers in (len(words) // 3, len(words)))
    assert measures.alphabetic(Words(few)) < MIN_ALPHABETIC
    assert drop_junk(page(few), 20) == (page(few), [])
    assert dropped_by(many) == "alphabetic"
