"""Which documents are duplicates, which of them stays, and what each of the others repeats."""

import random
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from troth.curate.collect.facts import fact_documents
from troth.curate.document import Document
from troth.curate.duplicates.prints import PrintWriter
from troth.curate.duplicates.stage import duplicates_part, find_duplicates
from troth.curate.filter.words import Words
from troth.curate.parts import Parts
from troth.curate.records import Decision
from troth.system import CurateTable

VOCABULARY = [f"{a}{b}{c}" for a in "bdfgkl" for b in "aeiou" for c in ("n", "rt", "st", "m", "lk")]


def article(seed: int, paragraphs: int = 6) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(VOCABULARY, k=draw.randint(40, 90))) + "." for _ in range(paragraphs)]


def document(source: str, paragraphs: list[str], published: str = "") -> Document:
    return Document(source, "documents", "\n\n".join(paragraphs), published=published)


@dataclass(frozen=True)
class Duplicate:
    source: str
    of: str
    score: float
    kind: str


def run(
    documents: list[Document], near_duplicate: float, parts: int = 1, repeated_in: int = 0
) -> tuple[list[Document], list[Decision]]:
    """Documents that passed the filters, dealt out to parts, through the stage: what stays, and why the rest goes."""
    kept, _, decisions = through(documents, near_duplicate, parts, repeated_in)
    return kept, decisions


def through(
    documents: list[Document], near_duplicate: float, parts: int = 1, repeated_in: int = 0
) -> tuple[list[Document], list[Document], list[Decision]]:
    """What stays, what testifies still, and decisions."""
    settings = CurateTable(near_duplicate=near_duplicate, repeated_in=repeated_in)
    with tempfile.TemporaryDirectory() as folder:
        filtered = Parts(Path(folder), "filter")
        for part in range(parts):
            filtered.write(part, "documents", Document, documents[part::parts])
            with PrintWriter(filtered, part) as prints:
                for one in documents[part::parts]:
                    prints.add(one, Words(one.text))
        find_duplicates(range(parts), Path(folder), settings)
        kept, repeats, decisions = [], [], []
        for part in range(parts):
            duplicates_part(part, Path(folder), settings)
            kept += Parts(Path(folder), "duplicates").read(part, "documents", Document)
            repeats += Parts(Path(folder), "duplicates").read(part, "repeats", Document)
            decisions += Parts(Path(folder), "duplicates").read(part, "decisions", Decision)
    return kept, repeats, decisions


def drop_duplicates(documents: list[Document], near_duplicate: float) -> tuple[list[Document], list[Duplicate]]:
    kept, decisions = run(documents, near_duplicate)
    kinds = [(one, one.rule.removesuffix("_duplicate")) for one in decisions]
    return kept, [Duplicate(one.subject, one.replacement, one.value, kind) for one, kind in kinds]


def test_a_reprint_is_found_and_the_earlier_one_stays():
    original = article(1)
    frame = [article(90, 1)[0], article(91, 1)[0]]
    documents = [document(f"other{seed}", article(seed)) for seed in range(2, 60)]
    documents.insert(5, document("reprint", [frame[0], *original[:2], *original[3:], frame[1]], "2020-05-01"))
    documents.insert(40, document("original", original, "2019-01-01"))
    kept, duplicates = drop_duplicates(documents, 0.5)
    assert [(one.source, one.of, one.kind) for one in duplicates] == [("reprint", "original", "near")]
    assert 0.7 < duplicates[0].score < 1
    assert kept == [one for one in documents if one.source != "reprint"]


def test_the_threshold_decides():
    a, b = article(1), [*article(1)[:3], *article(2)[:3]]
    both = [document("a", a), document("b", b)]
    assert len(drop_duplicates(both, 0.3)[0]) == 1
    assert len(drop_duplicates(both, 0.8)[0]) == 2


def test_of_exact_duplicates_the_earliest_stays_and_undated_ones_go():
    text = article(1)
    documents = [document("undated", text), document("late", text, "2020"), document("early", text, "2019-07")]
    kept, duplicates = drop_duplicates(documents, 0.5)
    assert [one.source for one in kept] == ["early"]
    assert {(one.source, one.of, one.score, one.kind) for one in duplicates} == {
        ("late", "early", 1.0, "exact"),
        ("undated", "early", 1.0, "exact"),
    }


def test_of_the_same_date_the_longest_stays():
    text = article(1)
    kept, duplicates = drop_duplicates([document("part", text[:4], "2020"), document("whole", text, "2020")], 0.5)
    assert [one.source for one in kept] == ["whole"]
    assert duplicates[0].score == 1.0


def test_a_publishers_later_edition_stays_and_another_publishers_copy_goes():
    first = replace(document("first", article(1), "2019"), publisher="A")
    again = [*article(1)[:5], article(99, 1)[0]]
    later, copy = (replace(document(who, again, "2021"), publisher=who[0].upper()) for who in ("again", "b"))
    assert [one.source for one in run([first, later], 0.5)[0]] == ["first", "again"]
    assert [one.source for one in run([first, copy], 0.5)[0]] == ["first"]


def test_editions_with_other_figures_both_stay():
    text = article(1)
    old = [*text, "The town had 41,200 people in the year of the census."]
    new = [*text, "The town had 45,900 people in the year of the census."]
    assert len(drop_duplicates([document("old", old, "2015"), document("new", new, "2020")], 0.5)[0]) == 2
    assert (
        len(drop_duplicates([document("old", old, "2015"), document("again", [*old, "Reprint."], "2020")], 0.5)[0]) == 1
    )


def test_code_that_holds_the_same_prose_is_another_kind():
    text = article(1)
    documents = [document("prose", text), replace(document("code", text), kind="code")]
    assert drop_duplicates(documents, 0.5) == (documents, [])


def test_facts_in_the_same_wording_are_no_duplicates():
    documents = fact_documents()
    assert len(documents) > 50
    assert drop_duplicates(documents, 0.5) == (documents, [])
    again = replace(document("z", [documents[3].text]), kind="facts")
    assert [one.of for one in drop_duplicates([*documents, again], 0.5)[1]] == [documents[3].source]


def test_a_copy_of_a_dropped_reprint_points_to_the_one_that_stays():
    reprint = article(1)[:5]
    documents = [document("a", article(1), "2019"), document("b", reprint, "2020"), document("c", reprint, "2021")]
    kept, duplicates = drop_duplicates([*documents, documents[0]], 0.5)
    assert kept == documents[:1]
    assert {(one.source, one.of, one.kind) for one in duplicates} == {
        ("a", "a", "exact"),
        ("b", "a", "near"),
        ("c", "a", "near"),
    }


def test_nothing_gives_nothing():
    assert drop_duplicates([], 0.5) == ([], [])


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(8)), st.randoms(use_true_random=False))
def test_the_order_given_does_not_matter(order, draw):
    base = [article(seed) for seed in range(3)]
    documents = [
        document("a", base[0], "2020"), document("b", base[0]), document("c", base[0][:-1], "2019"),
        document("d", base[1]), document("e", base[1][1:], "2018"), document("f", base[2]),
        document("g", [*base[2], *base[1][:1]]), document("h", base[2][:-1], "2017"),
    ]  # fmt: skip
    expected, reasons = drop_duplicates(documents, 0.5)
    kept, duplicates = drop_duplicates([documents[at] for at in order], 0.5)
    assert {one.source for one in kept} == {one.source for one in expected} == {"c", "e", "h"}
    assert sorted(duplicates, key=str) == sorted(reasons, key=str)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(24)), st.integers(1, 5))
def test_the_number_of_parts_does_not_matter(order, parts):
    documents = []
    for seed in range(6):
        text = article(seed)
        documents += [
            document(f"{seed}a", text), document(f"{seed}b", [*text[:-1], "Reprinted with leave."], f"20{10 + seed}"),
            document(f"{seed}c", text), document(f"{seed}d", [*article(seed + 50, 3), *text[:2]], "2001"),
        ]  # fmt: skip
    expected, reasons = run(documents, 0.5, repeated_in=2)
    kept, decisions = run([documents[at] for at in order], 0.5, parts, repeated_in=2)
    assert {(one.source, one.text) for one in kept} == {(one.source, one.text) for one in expected}
    assert sorted(decisions, key=str) == sorted(reasons, key=str)


SAID = (
    "Subscribers may read this page as often as they wish to. Nothing on it may be sold or lent to any other person. "
    "Questions about it are answered by the office in the old town hall."
)


def test_sentences_that_others_said_first_go():
    documents = [document(f"{n}", [*article(n), SAID, *article(n + 20, 1)], f"20{10 + n}") for n in range(4)]
    kept, decisions = run(documents, 0.5, parts=2, repeated_in=2)
    left = {one.source: one.text for one in kept}
    assert left["0"] == documents[0].text
    assert all(left[f"{n}"] == "\n\n".join([*article(n), *article(n + 20, 1)]) for n in (1, 2, 3))
    assert {(one.subject, one.rule, one.value, one.text) for one in decisions} == {
        (f"{n}", "repeated_sentences", 3.0, SAID) for n in (1, 2, 3)
    }
    assert run(documents, 0.5, repeated_in=5) == (documents, [])
    assert run(documents, 0.5, repeated_in=0) == (documents, [])


def test_a_publisher_may_say_again_what_still_holds():
    first, later, other = (document(name, [*article(n), SAID], day) for n, (name, day) in enumerate(
        [("first", "2015"), ("later", "2020"), ("other", "2021")]
    ))  # fmt: skip
    documents = [replace(first, publisher="A"), replace(later, publisher="A"), replace(other, publisher="B")]
    kept, decisions = run(documents, 0.5, repeated_in=2)
    assert [SAID in one.text for one in kept] == [True, True, False]
    assert [one.subject for one in decisions] == ["other"]


def test_what_another_publisher_or_edition_said_first_is_kept_as_testimony():
    """With the headings above it; what one publisher says twice on a day is not."""
    first = replace(document("first", [*article(1), SAID], "2015"), publisher="A")
    later = replace(document("later", ["# Office hours", SAID, "# News", *article(2)], "2016"), publisher="B")
    twice = replace(document("twice", ["# Again", SAID, *article(3)], "2015"), publisher="A")
    mirror = replace(first, source="mirror", publisher="C", published="2017")
    edition = replace(first, source="edition", published="2018")
    reload = replace(first, source="reload")
    kept, repeats, _ = through([first, later, twice, mirror, edition, reload], 0.9, repeated_in=2)
    assert [one.source for one in kept] == ["first", "later", "twice"]
    assert [(one.source, one.publisher, one.text) for one in repeats] == [
        ("later", "B", f"# Office hours\n\n{SAID}"), ("mirror", "C", first.text), ("edition", "A", first.text),
    ]  # fmt: skip


def test_the_heading_of_what_stays_stays():
    """Of a section whose beginning goes: else the rest would stand under the heading before."""
    first = replace(document("first", ["Peru", SAID, *article(1)], "2015"), publisher="A")
    later = ["Norway", *article(2, 1), "Peru", f"{SAID} {article(3, 1)[0]}", "Chad", *article(4, 1)]
    kept, _ = run([first, replace(document("later", later, "2016"), publisher="B")], 0.9, repeated_in=2)
    assert [one.text for one in kept][1] == "\n\n".join(
        ["Norway", *article(2, 1), "Peru", *article(3, 1), "Chad", *article(4, 1)]
    )
    whole, _ = run(
        [first, replace(document("later", ["Peru", SAID, "Chad", *article(4)], "2016"), publisher="B")],
        0.9, repeated_in=2,
    )  # fmt: skip
    assert whole[1].text == "\n\n".join(["Chad", *article(4)])


def test_two_sentences_in_common_are_none():
    two = SAID[: SAID.index("Questions")].strip()
    documents = [document(f"{n}", [*article(n), two]) for n in range(3)]
    assert run(documents, 0.5, repeated_in=2) == (documents, [])


def test_a_page_of_nothing_new_goes():
    documents = [document("a", [*article(1, 20), SAID], "2001"), document("b", [SAID, "See there."], "2002")]
    kept, decisions = run(documents, 1.0, repeated_in=2)
    assert [one.source for one in kept] == ["a"]
    assert [(one.label, one.rule) for one in decisions] == [
        ("changed", "repeated_sentences"), ("dropped", "repeated_sentences"),
    ]  # fmt: skip


def test_a_kind_of_its_own_for_each_part_of_the_house(tmp_path):
    """What was found is not looked for again, and a part that is done stays as it is."""
    filtered = Parts(tmp_path, "filter")
    filtered.write(0, "documents", Document, [document("a", article(1))])
    with PrintWriter(filtered, 0) as prints:
        prints.add(document("a", article(1)), Words(document("a", article(1)).text))
    for _ in range(2):
        find_duplicates([0], tmp_path, CurateTable())
        duplicates_part(0, tmp_path, CurateTable())
    assert [one.source for one in Parts(tmp_path, "duplicates").read(0, "documents", Document)] == ["a"]
