"""Publishers that tell like things of many subjects, year after year, in wordings that the code has never seen."""

from collections import Counter
from dataclasses import replace

import pytest

from troth.curate.document import Document
from troth.curate.validate.slots import Statement, judge_documents, publisher_statements, survey, variety
from troth.curate.validate.slots.readings import read, within
from troth.curate.validate.slots.slot import make_slot

from .lands import LANDS, YEARS, people, rule, ruler, said, sea


def corpus(wrong: dict[tuple[str, int, int], dict[str, str]] | None = None) -> list[Document]:
    """Four publishers: a page a land, a page a land with bullets, a page a topic, and one page a year. `wrong` puts
    other values into what a publisher says of a land in a year."""
    documents = []
    for year in YEARS:
        told = {}
        for who in "ABCD":
            for land in range(len(LANDS)):
                values = {"n": f"{people(land, year):,}", "r": ruler(land, year), "g": rule(land), "s": sea(land)}
                if who == "B":
                    values["n"] = f"{people(land, year) / 1e6:.2f} million"
                told[who, land] = values | (wrong or {}).get((who, year, land), {})
        for at, land in enumerate(LANDS):
            a, b = told["A", at], told["B", at]
            prose = (
                f"The number of people who live in {land} is {a['n']}. It is ruled by {a['r']}. "
                f"Its form of government is {a['g']}. Ships reach it over the {a['s']}.\n"
            )
            bullets = (
                f"# Notes on {land}\n- Inhabitants: {b['n']}\n- Ruler: {b['r']}\n"
                f"- Kind of state: {b['g']}\n- Coast: {b['s']}\n"
            )
            documents.append(_page("A", year, land, prose, title=land))
            documents.append(_page("B", year, land, bullets, title=f"{land} at a glance"))
        topics = {
            "Peoples": "In {year}, {land} counted {n} heads.", "Thrones": "{r} sits on the throne of {land}.",
            "Constitutions": "{land} calls itself {g}.", "Coasts": "The waves of the {s} beat on {land}.",
        }  # fmt: skip
        for topic, form in topics.items():
            told_c = [form.format(land=land, year=year, **told["C", at]) for at, land in enumerate(LANDS)]
            documents.append(_page("C", year, topic, " ".join(told_c), title=topic))
        whole = [
            f"## {land}\n\nHead count: {d['n']}. On the throne: {d['r']}. Ruled as: {d['g']}. Washed by: {d['s']}.\n\n"
            for at, land in enumerate(LANDS) for d in [told["D", at]]
        ]  # fmt: skip
        documents.append(_page("D", year, "all", "".join(whole), title=f"The year {year}"))
    return documents


def _page(who: str, year: int, name: str, text: str, title: str) -> Document:
    published = f"{year}-0{'ABCD'.index(who) + 2}-01"
    return Document(f"{who}/{year}/{name}", "documents", text, title=title, publisher=who, published=published)


WRONG = {
    ("D", 2018, 3): {"n": "9,999,999"},
    ("D", 2020, 4): {"r": "Xaver Quill"},
    ("D", 2022, 5): {"g": "a theocracy under elders"},
    ("D", 2016, 6): {"s": "Quiet Ocean"},
    ("D", 2022, 0): {"r": ruler(0, 2015)},
}


@pytest.fixture(scope="module")
def verdicts():
    return judge_documents(corpus(WRONG), seed=0)[1]


def test_every_value_is_found_whatever_its_kind(verdicts):
    counts = Counter(v.statement.publisher for v in verdicts)
    assert set(counts) == set("ABCD")
    assert min(counts.values()) >= 4 * len(LANDS) * len(YEARS)


def test_spans_are_bytes_of_the_document(verdicts):
    texts = {document.source: document.text.encode() for document in corpus(WRONG)}
    for verdict in verdicts:
        one = verdict.statement
        assert texts[one.source][one.start : one.end].decode() == one.text
        assert one.line_start <= one.start < one.end <= one.line_end


def test_a_value_that_changed_is_superseded_and_says_by_what(verdicts):
    (old,) = said(verdicts, "A/2015/Dorvik", f"{people(3, 2015):,}")
    assert (old.stance, old.time, old.note) == ("supported", "superseded", "")
    assert old.valid_from.startswith("2015")
    assert old.valid_to.startswith("2016")
    assert old.now in (f"{people(3, 2022):,}", f"{people(3, 2022) / 1e6:.2f} million")


def test_a_value_that_stays_is_current_in_every_edition(verdicts):
    for year in YEARS:
        for publisher, page in (("A", "Gressa"), ("B", "Gressa")):
            found = said(verdicts, f"{publisher}/{year}/{page}", rule(6), rule(6).removeprefix("a "))
            assert {(v.stance, v.time) for v in found} == {("supported", "current")}


def test_rounding_changes_nothing(verdicts):
    for year in YEARS:
        (rounded,) = said(verdicts, f"B/{year}/Dorvik", f"{people(3, year) / 1e6:.2f} million")
        assert rounded.stance == "supported"
    assert rounded.time == "current"


@pytest.mark.parametrize(
    ("year", "wrong", "right"),
    [
        (2018, "9,999,999", f"{people(3, 2018):,}"), (2020, "Xaver Quill", ruler(4, 2020)),
        (2022, "theocracy under elders", rule(5)), (2016, "Quiet Ocean", sea(6)),
    ],
)  # fmt: skip
def test_what_was_never_right_is_refuted_with_the_right_value(verdicts, year, wrong, right):
    (found,) = [v for v in verdicts if v.statement.source == f"D/{year}/all" and wrong in v.statement.text]
    assert (found.stance, found.time) == ("refuted", "current")
    assert found.answer in right
    assert {witness.publisher for witness in found.witnesses} == set("ABC")


def test_an_old_value_under_a_new_date_is_stale(verdicts):
    stale = [v for v in said(verdicts, "D/2022/all", ruler(0, 2015)) if v.statement.subject == "arvenia"]
    assert [(v.stance, v.time, v.note, v.answer) for v in stale] == [("refuted", "superseded", "stale", ruler(0, 2022))]


def test_nothing_right_is_refuted(verdicts):
    refuted = {(v.statement.source, v.statement.text) for v in verdicts if v.stance == "refuted"}
    assert len(refuted) == len(WRONG)


def test_the_order_of_documents_does_not_matter(verdicts):
    again = judge_documents(corpus(WRONG)[::-1], seed=0)[1]
    assert sorted(map(repr, again)) == sorted(map(repr, verdicts))


def test_wordings_are_the_same_however_many_branches_are_walked_at_once(verdicts, monkeypatch):
    monkeypatch.setattr(variety, "_TOGETHER", 20)
    assert list(map(repr, judge_documents(corpus(WRONG), seed=0)[1])) == list(map(repr, verdicts))


def test_a_single_publisher_is_not_contradicted_but_its_own_editions_date_what_it_said():
    alone = [document for document in corpus() if document.publisher == "A"]
    verdicts = judge_documents(alone, seed=0)[1]
    assert {v.stance for v in verdicts} == {"not_enough_evidence"}
    (old,) = said(verdicts, "A/2015/Dorvik", f"{people(3, 2015):,}")
    assert (old.time, old.now) == ("superseded", f"{people(3, 2022):,}")
    assert {v.time for v in said(verdicts, "A/2015/Dorvik", rule(3))} == {"current"}


def test_copies_have_one_voice():
    """Two mirrors repeat a mistake word for word: three to two by count, but one to two by voice."""
    right = {("D", year, 2): {"s": "Salt Marsh"} for year in YEARS}
    documents = corpus(right)
    copies = [
        Document(f"{mirror}/{d.source}", "documents", d.text, title=d.title, publisher=mirror, published=d.published)
        for d in documents if d.publisher == "D" for mirror in ("Mirror", "Mirror of the mirror")
    ]  # fmt: skip
    learned, verdicts = judge_documents([*documents, *copies], seed=0)
    assert len({learned.beliefs.voices[who] for who in ("D", "Mirror", "Mirror of the mirror")}) == 1
    wrong = [v for v in verdicts if v.statement.text == "Salt Marsh"]
    assert len(wrong) == 3 * len(YEARS)
    assert {v.stance for v in wrong} == {"refuted"}


def in_the_same_words(wrong: dict[tuple[str, int, int], str]) -> list[Document]:
    """Four publishers of A's pages; `wrong` names another sea in what a publisher says of a land in a year."""
    return [
        replace(page, source=f"{who}/{page.source}", publisher=who)
        for who in ("Almanac", "Gazetteer", "Handbook", "Yearbook")
        for page in corpus({("A", year, land): {"s": sea} for (by, year, land), sea in wrong.items() if by == who})
        if page.publisher == "A"
    ]  # fmt: skip


def test_who_makes_mistakes_of_his_own_copies_nobody():
    """The same words for the same facts, as forms that are filled in: the mistakes tell who looked for himself."""
    seas = ("Salt Marsh", "Quiet Ocean", "Lake Perin", "Bay of Owls", "Cold Strait", "Low Lagoon")
    wrong = {
        (who, YEARS[place % 5], place // 5): f"{who} {name}"
        for n, who in enumerate(("Almanac", "Gazetteer", "Handbook", "Yearbook")) for at, name in enumerate(seas)
        for place in [2 * (6 * n + at)]
    }  # fmt: skip
    learned, verdicts = judge_documents(in_the_same_words(wrong), seed=0)
    assert len(set(learned.beliefs.voices.values())) == 4
    refuted = [(v.statement.text, v.answer) for v in verdicts if v.stance == "refuted"]
    assert sorted(told for told, _ in refuted) == sorted(wrong.values())
    assert {answer for _, answer in refuted} <= {sea(land) for land in range(len(LANDS))}


def test_who_shares_the_mistakes_of_another_copies_them():
    mistakes = {(2015, 1): "Salt Marsh", (2016, 4): "Quiet Ocean", (2018, 7): "Lake Perin", (2022, 2): "Bay of Owls"}
    wrong = {(who, *place): name for place, name in mistakes.items() for who in ("Handbook", "Yearbook")}
    voices = judge_documents(in_the_same_words(wrong), seed=0)[0].beliefs.voices
    assert voices["Handbook"] == voices["Yearbook"]


def test_undated_pages_are_judged_too():
    undated = [
        Document(d.source, "documents", d.text, title=d.title, publisher=d.publisher)
        for d in corpus({("D", 2022, 6): {"s": "Quiet Ocean"}}) if "/2022/" in d.source
    ]  # fmt: skip
    verdicts = judge_documents(undated, seed=0)[1]
    assert {v.time for v in verdicts} == {"undated"}


def test_of_one_date_nothing_has_changed_whoever_comes_last():
    """Four publishers on the same day: what the last one says otherwise is a mistake and no news."""
    one_day = [
        replace(d, published="2022") for d in corpus({("D", 2022, at): {"n": f"{at + 1},111,222"} for at in (1, 4)})
        if "/2022/" in d.source
    ]  # fmt: skip
    verdicts = judge_documents(one_day, seed=0)[1]
    assert {v.time for v in verdicts} == {"current"}
    assert {v.statement.text for v in verdicts if v.stance == "refuted"} == {"2,111,222", "5,111,222"}


def test_who_says_the_same_on_the_same_day_repeats_nobody():
    """Else whoever fills in a form that others fill in too, on one day, would look like one who repeats old values."""
    told = [("A", "2015", "1,234"), ("B", "2015", "1,234"), ("C", "2016", "1,234"), ("A", "2016", "5,678")]
    slot = make_slot(0, [
        Statement(who, "sha", (who, "people : 0", 0), day, 0, 9, 0, 5, n, "arvenia", "") for who, day, n in told
    ])  # fmt: skip
    assert [(one.publisher, bool(seen)) for one, seen in zip(slot.statements, slot.seen_T, strict=True)] == [
        ("A", False), ("B", False), ("A", False), ("C", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "is_piece"),
    [("was Anna Holm", "Anna Holm", True), ("republic", "a republic of towns", True), ("duchy", "republic", False),
     ("Anna Bela Holm", "Anna Holm", False), ("was 17", "17", False)],
)  # fmt: skip
def test_texts_that_differ_in_where_they_were_cut_off_are_pieces_of_each_other(one, other, is_piece):
    assert within(read(one), read(other)) == within(read(other), read(one)) == is_piece


@pytest.mark.parametrize(
    "texts", [[], [""], ["Bread."], ["# Only a heading"], ["\n\n", "Née 1,5 été…\U0001f600 " * 50]]
)
def test_a_corpus_that_repeats_nothing_has_no_statements(texts):
    documents = [Document(str(n), "documents", text, publisher=str(n)) for n, text in enumerate(texts)]
    learned, verdicts = judge_documents(documents, seed=0)
    assert verdicts == []
    assert learned.planted == 0
    assert [publisher_statements([one], survey(documents)) for one in documents] == [[] for _ in documents]


def test_a_number_is_mended_as_its_publisher_writes_it():
    """House B rounds to millions, and says the same in its other editions."""
    documents = []
    for at, land in enumerate(LANDS):
        size = 12_345_678 + 3_456_789 * at
        for year in YEARS:
            rounded = "991 million" if (land, year) == ("Gressa", 2018) else f"{size / 1e6:.1f} million"
            told = {
                "A": f"Its forests cover {size:,} acres.", "B": f"There are {rounded} acres of forest.",
                "C": f"Forests of {size:,} acres grow there.",
            }  # fmt: skip
            documents += [
                Document(f"{who}/{year}/{land}", "documents", text, title=land, publisher=who, published=f"{year}-06")
                for who, text in told.items()
            ]
    (mended,) = said(judge_documents(documents, seed=0)[1], "B/2018/Gressa", "991 million")
    assert (mended.stance, mended.answer) == ("refuted", "33.1 million")
