"""What belongs to a publisher's wordings, and what is a value."""

import pytest

from troth.curate.document import Document
from troth.curate.validate.notes import years_of_notes
from troth.curate.validate.slots import judge_documents
from troth.curate.validate.slots.tokens import pieces

from .lands import LANDS, RULERS, YEARS, people, rule, ruler, sea

WAYS = (
    "As of {year}, the {what} of {land} was {value}.", "{land} had {value} for its {what} in {year} (source: Survey).",
    "In its {year} edition the Handbook listed {value} as the {what} of {land}.", "{value} is the {what} of {land}.",
)  # fmt: skip


def in_many_words(titled: bool) -> tuple[list[Document], set[str]]:
    """Four publishers that word each sentence as it comes, in one of two ways each; and all values that they state."""
    documents, values = [], set()
    for who, year in ((who, year) for who in range(4) for year in YEARS):
        for at, land in enumerate(LANDS):
            told = {"population": f"{people(at, year):,}", "head of state": ruler(at, year), "coast": sea(at),
                    "form of government": rule(at).partition(" ")[2]}  # fmt: skip
            values |= set(told.values())
            sentences = [
                WAYS[(who + (at * 7 + year * 3 + n * 5) // 2 % 2) % 4].format(year=year, what=what, land=land, value=v)
                for n, (what, v) in enumerate(told.items())
            ]
            documents.append(Document(
                f"{who}/{year}/{land}", "documents", " ".join(one[0].upper() + one[1:] for one in sentences),
                title=land if titled else "", publisher=f"House {who}", published=f"{year}-06-01",
            ))  # fmt: skip
    return documents, values


@pytest.mark.parametrize("titled", [True, False])
def test_alternatives_that_have_nothing_to_do_with_the_subject_are_wording(titled):
    """And documents without a title are about the name that keeps the most different company."""
    documents, values = in_many_words(titled)
    verdicts = judge_documents(documents, seed=0)[1]
    known = {value.lower() for value in values}
    assert {v.statement.text for v in verdicts if v.statement.text.lower() not in known} == set()
    assert len(verdicts) > 0.9 * 4 * len(documents)
    assert {v.statement.subject for v in verdicts} == {land.lower() for land in LANDS}
    assert not [v.statement.text for v in verdicts if v.stance == "refuted"]
    old = {v.statement.text for v in verdicts if v.time == "superseded"}
    assert not old & {name for at in range(len(LANDS)) for name in (sea(at), rule(at).partition(" ")[2])}
    assert {f"{people(at, 2015):,}" for at in range(len(LANDS))} <= old


def test_when_a_figure_is_from_is_no_part_of_the_wording():
    """Some editions write it behind the figure, and others do not."""
    documents = [
        Document(
            f"{who}/{year}/{land}", "documents", f"The people of {land} number {people(at, year):,}{note}. {more}",
            title=land, publisher=who, published=f"{year}-06-01",
        )
        for who, more in (("A", "It rains there."), ("B", "Few go there."))
        for at, land in enumerate(LANDS) for year in YEARS
        for note in [f" (July {year - 1} est.)" if year > 2016 else ""]
    ]  # fmt: skip
    verdicts = judge_documents(documents, seed=0)[1]
    assert {v.statement.text for v in verdicts} == {f"{people(at, y):,}" for at in range(len(LANDS)) for y in YEARS}
    assert {v.statement.published[:4] for v in verdicts if v.time == "superseded"} == {"2015", "2016", "2018", "2020"}
    assert years_of_notes("It has 3.2 million people (2018 est.), some ten million trees (2019).") == {"2018", "2019"}
    assert years_of_notes("The treaty (1957) has 12 rules (all old).") == frozenset()


def test_after_an_abbreviation_a_word_that_begins_no_name_begins_a_sentence():
    text = "He is ruled by Lt. Gen. Holm Jr. The coast is long. Its ruler is Gen. Sand."
    found = [text[start:end] for start, end, _ in pieces(text)]
    assert found == ["He is ruled by Lt. Gen. Holm Jr.", "The coast is long.", "Its ruler is Gen. Sand."]


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def test_a_number_in_words_is_that_number():
    """A publisher that rounds to millions and writes them out agrees with those that give every figure."""
    documents = [
        Document(f"{who}/{year}/{land}", "documents", text, title=land, publisher=who, published=f"{year}-06-01")
        for at, land in enumerate(LANDS) for year in YEARS for n in [people(at, year)]
        for who, text in (
            ("A", f"The population of {land} is {n:,}."), ("B", f"{land} has {n:,} inhabitants."),
            ("C", f"Some {NUMBERS[round(n / 1e6)]} million people live in {land}."),
        )
    ]  # fmt: skip
    verdicts = [v for v in judge_documents(documents, seed=0)[1] if v.statement.publisher == "C"]
    assert {v.stance for v in verdicts} == {"supported"}
    assert len(verdicts) == len(LANDS) * len(YEARS)


def test_a_list_without_marks_is_no_row_of_headings():
    """And its lines, which would be names else, are sentences of other publishers too."""
    ways = {"A": "{what} = {value}", "B": "{what} – {value}", "C": "{what}: {value}"}
    documents = [
        Document(
            f"{who}/{year}/{land}", "documents", "\n\n".join([land, *lines]), title=land, publisher=who,
            published=f"{year}-06-01",
        )
        for at, land in enumerate(LANDS) for year in YEARS for who, way in ways.items()
        for lines in [[
            way.format(what=what, value=value) for what, value in (
                ("Population", f"{people(at, year):,}"), ("Head of state", ruler(at, year)), ("Coast", sea(at)),
                ("Form of government", rule(at)),
            )
        ]]
    ]  # fmt: skip
    verdicts = judge_documents(documents, seed=0)[1]
    assert len(verdicts) == 4 * len(documents)
    assert {v.stance for v in verdicts} == {"supported"}
    text = "Arvenia\n\nThe coast\n\nIt is long.\n\nIts ruler\n\nAnna Holm rules."
    assert [heads for _, _, heads in pieces(text)] == [True, True, False, True, False]


def test_what_a_table_under_a_heading_gives_for_each_year_is_about_the_page_and_the_heading():
    """Else its rows could not be told apart."""
    ways = {"A": "{0:,.0f} sq km", "B": "{0:,.0f} km²", "C": "{1:,.1f} thousand sq km"}

    def row(who, at, what, year):
        area = people(at, year) / len(what) * (2 if (who, at, what, year) == ("A", 4, "Land area", 2018) else 1)
        return f"Year: {year}; {what}: {ways[who].format(area, area / 1000)}"

    documents = [
        Document(
            f"{who}/{land}", "documents", title=land, publisher=who, published="2023-06-01",
            text="\n\n".join(part for what in ("Land area", "Area of lakes")
                             for part in (what, *(row(who, at, what, year) for year in YEARS))),
        )
        for at, land in enumerate(LANDS) for who in ways
    ]  # fmt: skip
    verdicts = judge_documents(documents, seed=0)[1]
    assert len(verdicts) == 2 * len(YEARS) * len(documents)
    assert {v.statement.subject for v in verdicts} >= {"arvenia land area", "arvenia area of lakes"}
    assert [(v.statement.source, v.statement.year) for v in verdicts if v.stance == "refuted"] == [
        (f"A/{LANDS[4]}", "2018")
    ]


def terms(wrong: dict[tuple[str, int], tuple[int, int]], another: frozenset[tuple[str, int]]) -> list[Document]:
    """What four publishers say of the mayors of sixty towns; some years are `wrong`, and some tell of `another` one."""
    ways = {
        "A": "{who} was mayor from {since} to {until}.", "B": "Between {since} and {until} the mayor was {who}.",
        "C": "{who} ({since}–{until}) held the office of mayor.", "D": "{who} governed it from {since} until {until}.",
    }  # fmt: skip
    documents = []
    greek = ("Alpha", "Beta", "Gamma", "Delta", "Kappa", "Omega")
    for house, way in ways.items():
        for town in range(60):
            after = 8 * ((house, town) in another)
            since, until = wrong.get((house, town), (1900 + 7 * town % 90 + after, 1904 + 7 * town % 90 + after))
            text = way.format(who=RULERS[(town + after // 8) % 5], since=since, until=until)
            title = f"{LANDS[town // 6 % 10]} {greek[town % 6]}"
            documents.append(Document(f"{house}/{town}", "documents", text, title=title, publisher=house))
    return documents


def test_both_years_of_a_term_are_judged_and_another_term_is_no_error():
    wrong = {("A", 3): (1919, 1925), ("B", 14): (1905, 1912), ("C", 33): (1948, 1955), ("D", 47): (1959, 1961)}
    refuted = {
        (v.statement.source, v.statement.text, v.answer)
        for v in judge_documents(terms(wrong, frozenset()), seed=0)[1] if v.stance == "refuted"
    }  # fmt: skip
    assert refuted == {
        ("A/3", "1919", "1921"), ("B/14", "1905", "1908"), ("C/33", "1948", "1951"), ("D/47", "1961", "1963"),
    }  # fmt: skip
    another = frozenset((house, town) for town in range(0, 60, 4) for house in "ABCD"[town // 4 % 4])
    assert not [v for v in judge_documents(terms({}, another), seed=0)[1] if v.stance == "refuted"]
