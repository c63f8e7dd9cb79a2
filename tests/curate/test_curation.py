"""Curation from documents to ledger, on small corpora whose errors are known, and on the library without its key."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from troth.curate.collect import collect
from troth.curate.document import Document
from troth.curate.integrate.corpus import read_documents
from troth.curate.integrate.ledger import read_table
from troth.curate.integrate.weight import weigh_documents
from troth.curate.pipeline import Cleaned, clean, curate
from troth.curate.validate.claims import find_claims, misstated
from troth.curate.validate.judge import Example, fit, judge
from troth.curate.validate.validate import validate
from troth.curate.validate.values import Value
from troth.system import CurateTable, load_system

CAPITALS = {
    "Norway": "Oslo", "Kenya": "Nairobi", "Peru": "Lima", "Japan": "Tokyo", "Canada": "Ottawa", "Cuba": "Havana",
    "Chad": "Ndjamena", "Nepal": "Kathmandu", "Ghana": "Accra", "Oman": "Muscat", "Iran": "Tehran", "Fiji": "Suva",
    "Mali": "Bamako", "Laos": "Vientiane", "Qatar": "Doha", "Benin": "Cotonou", "Latvia": "Riga", "Serbia": "Belgrade",
}  # fmt: skip


class Examiner:
    """A model of its own kind: knows the capitals, but is sure of nothing."""

    def __init__(self):
        self.asked = 0

    def ask(self, clozes):
        self.asked += len(clozes)
        true = set(CAPITALS.values()) | set(CAPITALS)
        return [[0.0 if option in true else -3.0 for option in cloze.options] for cloze in clozes]


def _corpus(wrong: dict[str, str]) -> list[Document]:
    """Three publishers, each stating every capital in its own words; the third one errs as told."""
    told = {land: wrong.get(land, city) for land, city in CAPITALS.items()}
    first = [f"The government of {land} sits in {city}, which is its capital." for land, city in CAPITALS.items()]
    second = [f"Few travellers leave {land} without a walk through its capital {c}." for land, c in CAPITALS.items()]
    third = [f"Anyone who flies to {land} lands near {city}, the capital." for land, city in told.items()]
    return [
        Document("a", "documents", "\n\n".join(first), publisher="A", published="2020-01-01"),
        Document("b", "documents", "\n\n".join(second), publisher="B", published="2021-01-01"),
        Document("c", "documents", "\n\n".join(third), publisher="C", published="2022-01-01"),
    ]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    out = tmp_path_factory.mktemp("curated")
    documents = _corpus({"Norway": "Bergen", "Japan": "Kyoto"})
    settings = CurateTable()
    report = curate(Cleaned(documents, []), None, settings, out, generation=1, seed=0)
    return out, report


def test_wrong_values_are_replaced_by_what_two_others_say(outcome):
    out, _ = outcome
    text = {d.source: d.text for d in read_documents(out / "documents.parquet")}["c"]
    assert "Bergen" not in text
    assert "lands near Oslo" in text
    assert "lands near Tokyo" in text


def test_right_statements_are_left_alone(outcome):
    out, _ = outcome
    before = {d.source: d.text for d in _corpus({})}
    after = {d.source: d.text for d in read_documents(out / "documents.parquet")}
    assert after["a"] == before["a"]
    assert after["b"] == before["b"]
    assert after["c"] == before["c"]


def test_every_correction_is_on_record_with_its_evidence(outcome):
    out, report = outcome
    corrections = read_table(out / "ledger", "corrections")
    assert {row["old"].split()[4] for row in corrections} == {"Norway", "Japan"}
    evidence = read_table(out / "ledger", "evidence", generation=1)
    for row in corrections:
        spans = [e["span"] for e in evidence if e["claim_id"] == row["claim_id"]]
        assert len(spans) >= 2
        assert row["reverified_by"]
    occurrences = {row["occ_id"]: row for row in read_table(out / "ledger", "occurrences")}
    sources = {d.source: d.text.encode() for d in _corpus({"Norway": "Bergen", "Japan": "Kyoto"})}
    for row in corrections:
        place = occurrences[row["occ_id"]]
        assert sources[place["source_id"]][place["byte_start"] : place["byte_end"]].decode() == row["old"]
    assert json.loads((out / "report.json").read_text()) == report


def test_a_finished_curation_is_not_done_again(outcome):
    out, report = outcome
    assert curate(Cleaned([], []), None, CurateTable(), out, generation=1, seed=0) == report


def test_an_old_value_that_newer_pages_contradict_is_dated():
    documents = [
        Document(publisher.lower(), "documents", text, publisher=publisher, published=published)
        for publisher, published, text in (
            ("A", "2020-01-01", "The tallest tower in Freedonia is the Sky Needle."),
            ("B", "2021-05-01", "Freedonia boasts the Sky Needle, its tallest tower."),
            ("C", "2003-05-01", "The tallest tower in Freedonia is the Old Spire."),
        )
    ]
    documents += _corpus({})
    from troth.curate.refine.correct import apply, propose

    verdicts = validate(documents, None, CurateTable(), seed=0).verdicts
    texts = [d.text for d in apply(documents, propose(verdicts, 0.5))]
    new = "As of 2003, the tallest tower in Freedonia is the Old Spire. By 2020: "
    assert f"{new}The tallest tower in Freedonia is the Sky Needle." in texts
    assert {d.text for d in documents[:2]} <= set(texts)


def test_the_examiner_is_asked_about_every_claim_with_evidence():
    examiner = Examiner()
    result = validate(_corpus({"Kenya": "Mombasa"}), examiner, CurateTable(), seed=0)
    assert examiner.asked >= len(result.verdicts)
    worst = min(result.verdicts, key=lambda v: v.p_stated)
    assert (worst.claim.value.text, worst.stance, worst.best.text) == ("Mombasa", "refuted", "Nairobi")


def test_judge_learns_to_follow_what_told_true_from_planted():
    random = np.random.default_rng(0)
    examples = []
    for _ in range(300):
        x = random.normal(size=(3, 2))
        true = int(np.argmax(x[:, 0] + 0.1 * random.normal(size=3)))
        examples.append(Example(x, true, 1.0))
    theta = fit(examples)
    assert theta[0] > 3 * abs(theta[1])
    x = [e.x_CK for e in examples]
    probabilities, _ = judge(x, [np.zeros((3, 1))] * 300, np.zeros(300, int), theta, planted_rate=0.5)
    assert np.mean([int(np.argmax(p)) == e.true for p, e in zip(probabilities, examples, strict=True)]) > 0.9


@pytest.mark.parametrize("texts", [("Bread.", "Rain."), ("The oven holds 12 loaves.", "The Danube froze in 1929.")])
def test_publishers_that_speak_of_different_things_judge_nothing(texts):
    documents = [Document(who, "documents", text, publisher=who) for who, text in zip("AB", texts, strict=True)]
    result = validate(documents, None, CurateTable(), seed=0)
    assert result.verdicts == []
    assert result.unchecked == result.claims


def test_one_fact_that_two_publishers_share_is_enough_to_judge():
    texts = "The bridge of Xanadu opened in 1931. Bread rises.", "In 1931 Xanadu opened its bridge. Rain falls."
    documents = [Document(who, "documents", text, publisher=who) for who, text in zip("AB", texts, strict=True)]
    for seed in range(4):
        verdicts = validate(documents, None, CurateTable(), seed=seed).verdicts
        assert {v.stance for v in verdicts if v.claim.value.text == "1931"} == {"supported"}


def test_the_word_of_a_publisher_that_errs_often_counts_less():
    careless, careful, other = range(3)
    refuted, believed, open_ = np.array([[0.0], [3.0]]), np.array([[3.0], [0.0]]), np.array([[0.0], [0.0]])
    nobody = np.zeros((2, 3))
    features = [refuted] * 60 + [believed] * 140 + [open_] * 2
    speakers = np.array([careless] * 100 + [careful] * 100 + [other] * 2)
    contradicted_by = [nobody.copy(), nobody.copy()]
    contradicted_by[0][1, careless] = contradicted_by[1][1, careful] = 1.0
    heard = [nobody] * 200 + contradicted_by
    probabilities, errors = judge(features, heard, speakers, np.array([1.0]), planted_rate=0.15)
    assert errors[careless] > 2 * errors[careful]
    assert probabilities[-2][0] > 0.5 > probabilities[-1][0]


def test_a_misstated_claim_is_the_sentence_with_another_value():
    claim = next(claim for claim in find_claims(_corpus({}))[1] if claim.value.kind == "name")
    wrong = Value(0, 8, "Atlantis", "name", "atlantis")
    error = misstated(claim, wrong)
    assert error.sentence.text == claim.with_value("Atlantis")
    assert error.sentence.text[error.value.start : error.value.end] == "Atlantis"
    assert error.claim_id != claim.claim_id


def test_curating_the_library_never_opens_its_key(tmp_path):
    opened = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    system = load_system("nano", ['data.sources=["library"]'])
    cleaned = clean(collect(system.data).documents, system.curate)
    report = curate(cleaned, None, system.curate, tmp_path, generation=1, seed=0)
    assert report["claims"] > 3000
    assert report["duplicates"] == 36
    assert any(Path(path).name == "almanac.csv" for path in opened)
    assert not any(Path(path).name == "key.jsonl" for path in opened)


def test_a_publisher_that_errs_less_is_read_more_often():
    documents = [Document(who.lower(), "documents", "Text.", publisher=who) for who in "ABCD"]
    weights = [d.weight for d in weigh_documents(documents, {"A": 0.02, "B": 0.1, "C": 0.3})]
    assert 1.5 >= weights[0] > weights[1] > weights[2] >= 2 / 3
    assert weights[3] == 1  # of D nothing is known


def test_where_all_err_alike_all_are_read_alike():
    documents = [Document(who.lower(), "documents", "Text.", publisher=who) for who in "AB"]
    assert [d.weight for d in weigh_documents(documents, {"A": 0.2, "B": 0.2})] == [1, 1]
    assert [d.weight for d in weigh_documents(documents, {"A": 0.6, "B": 0.6})] == [1, 1]
    assert weigh_documents(documents, {}) == documents


@pytest.mark.parametrize("weight", [-1.0, 0.0, float("nan")])
def test_a_weight_that_makes_no_sense_is_named(tmp_path, weight):
    path = tmp_path / "documents.parquet"
    pq.write_table(pa.table({"text": ["One.", "Two."], "weight": [None, weight]}), path)
    with pytest.raises(ValueError, match=r"documents\.parquet, row 1: weight="):
        read_documents(path)


def test_a_value_inside_a_word_is_a_value_too(tmp_path):
    """What is left of the word when its number is cut out is a stem that no sentence has."""
    notes = "Logits of the two networks agree within 1e-4 after 300 steps of training on the small corpus."
    documents = [*_corpus({}), Document("notes", "documents", notes, publisher="D", published="2023-01-01")]
    curate(Cleaned(documents, []), None, CurateTable(), tmp_path, generation=1, seed=0)
    assert {d.source: d.text for d in read_documents(tmp_path / "documents.parquet")}["notes"] == notes
