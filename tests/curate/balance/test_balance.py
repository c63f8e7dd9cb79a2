"""Balance before and after: topics have names, viewpoints are kept or lost, and the order does not matter."""

import random
from dataclasses import replace

from troth.curate.balance.report import balance, compare, count, learn
from troth.curate.balance.sample import sample
from troth.curate.balance.viewpoints import Retained, lost_viewpoint, retention
from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.records import Decision

SEA = ["harbour", "ship", "sailor", "anchor", "captain", "tide", "island", "lighthouse", "coast", "voyage", "deck"]
LAW = ["court", "judge", "verdict", "lawyer", "trial", "witness", "statute", "appeal", "jury", "clerk", "hearing"]


def text(words: list[str], seed: int, tone: list[str] | None = None) -> str:
    draw = random.Random(seed)
    said = ["The {} and the {} were near the {}.".format(*draw.choices(words, k=3)) for _ in range(12)]
    return " ".join([*said, *(f"It was {word}." for word in (tone or []))])


def corpus() -> list[Document]:
    sea = [Document(f"s{n}", "c", text(SEA, n), publisher="Coast", licence="CC0-1.0") for n in range(80)]
    angry = ["disgraceful", "corrupt", "shameful", "illegal"]
    glad = ["heroic", "wonderful", "noble", "splendid"]
    law = [Document(f"a{n}", "c", text(LAW, n, angry), publisher="Bar") for n in range(60)]
    law += [Document(f"g{n}", "c", text(LAW, n + 500, glad), publisher="Bench") for n in range(60)]
    return sea + law


def test_topics_are_named_and_viewpoints_told_apart():
    lens = learn(corpus())
    places = {document.source: lens.place(document) for document in corpus()}
    sea = {places[f"s{n}"][0] for n in range(80)}
    law = {places[f"{side}{n}"][0] for side in "ag" for n in range(60)}
    assert sea.isdisjoint(law)
    assert all(set(lens.topics.names[topic].split(", ")) <= set(SEA) | {"near"} for topic in sea)
    assert all(places[f"s{n}"][1].endswith("plain") for n in range(80))
    angry, glad = ({places[f"{side}{n}"][1] for n in range(60)} for side in "ag")
    assert angry.isdisjoint(glad)


def test_a_lost_viewpoint_is_seen():
    documents = corpus()
    lens = learn(documents)
    before = count(documents, lens)
    report = compare(before, count([one for one in documents if one.source[0] != "a"], lens), lens)
    lost = [row for row in report.retention if row.share == 0]
    assert sum(row.before for row in lost) == 60
    assert report.documents == (200, 140)
    assert report.breadth["publisher"][1] < report.breadth["publisher"][0]
    rows = {(line.axis, line.name): (line.before, line.after) for line in report.lines}
    assert rows["publisher", "Bar"] == (60, 0)
    assert rows["licence", "(unknown)"] == (120, 60)


def test_copies_that_go_take_no_viewpoint_with_them(tmp_path):
    documents = corpus()
    Parts(tmp_path, "collect").write(0, "documents", Document, documents)
    kept = [one for one in documents if one.source[0] != "a" or one.source == "a0"]
    Parts(tmp_path, "duplicates").write(0, "documents", Document, kept)
    assert lost_viewpoint(balance([0], tmp_path).retention, 0.75)
    copies = [Decision("duplicates", f"a{n}", "dropped", "near_duplicate", 0.9, 0.72) for n in range(1, 60)]
    Parts(tmp_path, "duplicates").write(0, "decisions", Decision, copies)
    found = balance([0], tmp_path)
    assert not lost_viewpoint(found.retention, 0.0)
    assert found.documents == (200, 141)


def test_retention_leaves_plain_texts_out():
    before = {"0.0": 10, "0.1": 4, "0.plain": 9, "none": 2}
    assert retention(before, {"0.0": 9, "0.plain": 1}) == [Retained("0.1", 4, 0), Retained("0.0", 10, 9)]


def test_the_sample_is_bounded_and_does_not_depend_on_the_order():
    documents = corpus()
    assert sample(documents, 30) == sample(documents[::-1] + documents[:5], 30)
    assert len(sample(documents, 30)) == 30
    assert len(sample(documents, 1000)) == 200


def test_the_report_of_a_run_is_the_same_whatever_its_parts(tmp_path):
    documents = corpus()
    reports = []
    for parts in (1, 3):
        out = tmp_path / str(parts)
        for part in range(parts):
            Parts(out, "collect").write(part, "documents", Document, documents[part::parts])
            Parts(out, "duplicates").write(part, "documents", Document, documents[part::parts][:20])
        reports.append(balance(range(parts), out))
    one, three = (replace(report, documents=(0, 0), loaded=(0, 0), breadth={}, retention=[]) for report in reports)
    assert [(line.axis, line.key, line.name, line.before) for line in one.lines] == [
        (line.axis, line.key, line.name, line.before) for line in three.lines
    ]


def test_nothing_is_balanced_too():
    lens = learn([])
    report = compare(count([], lens), count([], lens), lens)
    assert report.lines == []
    assert report.as_json()["documents"] == (0, 0)
