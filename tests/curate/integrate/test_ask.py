"""What `troth ask` answers over a corpus whose facts are known."""

import json

import pytest

from troth.curate.integrate.ask import ask, documents_about, is_name


def answers(curation, question, **more):
    return [(a.object, a.standing) for a in ask(curation / "ledger", question, **more)]


def test_what_stands_comes_first_and_what_is_refuted_is_named_so(curation):
    assert answers(curation, "What is the capital of Norway?") == [("Oslo", "current"), ("Bergen", "refuted")]


def test_publishers_that_say_the_same_are_one_answer(curation):
    oslo = ask(curation / "ledger", "capital of Norway")[0]
    assert set(oslo.publishers) == {"Atlas House", "Guide Press"}
    assert {source.source_id for source in oslo.sources if source.stance != "refuted"} == {
        "atlas/norway.md", "guide/norway.md"
    }  # fmt: skip
    assert all(source.published_at for source in oslo.sources)


def test_a_question_that_states_an_error_is_told_the_truth(curation):
    (bergen,) = ask(curation / "ledger", "Is Bergen the capital of Norway?")
    assert (bergen.standing, bergen.rather) == ("refuted", "Oslo")


def test_the_title_of_the_page_and_the_subject_count(curation):
    """Two of the three pages say `the population` and name the country in their title alone."""
    found = ask(curation / "ledger", "What is the population of Angola?")
    assert [(a.object, a.standing) for a in found] == [("36.7 million", "current"), ("25.8 million", "superseded")]
    assert (found[1].since, found[1].until, found[1].rather) == ("2016-01-01", "2024-01-01", "36.7 million")
    assert "36.7" in found[1].newer_text


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2019", [("25.8 million", "current")]), ("2023-12-31", [("25.8 million", "current")]), ("2015", []),
        ("2024-06-01", [("36.7 million", "current"), ("25.8 million", "superseded")]),
    ],
)  # fmt: skip
def test_as_of_a_date(curation, at, expected):
    assert answers(curation, "What is the population of Angola?", at=at) == expected


def test_documents_that_have_the_words_are_named_where_no_claim_answers(curation):
    ledger = curation / "ledger"
    assert ask(ledger, "What to buy now?") == []
    assert documents_about(ledger, "What to buy now?") == {"guide/spam.md": "repeated_trigrams"}
    found = {"atlas/norway.md": "", "guide/copy.md": "exact_duplicate"}
    assert documents_about(ledger, "Where is a fjord?") == found
    assert documents_about(ledger, "Who likes cold fjords?") == {}
    assert documents_about(ledger, "Who is the king of Atlantis?") == documents_about(ledger, "") == {}


def test_a_contested_claim_is_told_with_both_sides(curation):
    (answer,) = ask(curation / "ledger", "Which is the longest river on Earth?")
    assert answer.standing == "contested"
    assert answer.sides == {"the Nile": ["Atlas House"], "the Amazon": ["Guide Press"]}


@pytest.mark.parametrize(
    "question",
    ["Who is the king of Atlantis?", "capital of Peru", "currency of Angola", "what is it?", "", "' or 1=1"],
)
def test_what_is_not_known_is_not_answered(curation, question):
    assert ask(curation / "ledger", question) == []


def test_a_name_alone_asks_for_what_is_said_of_it(curation, run_here):
    assert answers(curation, "Angola") == answers(curation, "What is the population of Angola?")
    assert [said for said, _ in answers(curation, "norway")] == ["Oslo", "Bergen"]
    assert answers(curation, "Oslo") == [("Oslo", "current")]
    assert answers(curation, "Atlantis") == []
    told = run_here("ask", "Angola", "--ledger", curation / "ledger").stdout
    assert told.startswith("Of Angola alone; a question gets narrower answers")


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ("Chad", True), ("chad", True), ("Republic of the Congo", True), ("Ludwig van Beethoven", True),
        ("Chad?", False), ("capital of Norway", False), ("Why", False), ("", False), ("the longest river", False),
    ],
)  # fmt: skip
def test_what_is_a_name(question, named):
    assert is_name(question) is named


def test_a_date_that_is_none_is_refused(curation):
    with pytest.raises(ValueError, match="--at last year: expected a year"):
        ask(curation / "ledger", "capital of Norway", at="last year")


def test_the_command_says_plainly_what_it_knows(curation, run_here):
    def run(*arguments):
        done = run_here("ask", *arguments, "--ledger", curation / "ledger")
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("Who is the king of Atlantis?") == "The curated documents know nothing of this.\n"
    told = run("longest river on Earth")
    assert "contested" in told
    assert "the Amazon: Guide Press" in told
    assert json.loads(run("population of Angola", "--at", "2019", "--json"))["answers"][0]["object"] == "25.8 million"
