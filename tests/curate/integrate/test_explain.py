"""What `troth explain` tells of documents and claims, by name, by hash and by words."""

import json
from functools import partial

import pytest

from troth.curate.integrate.explain import find_subjects, tell
from troth.curate.integrate.ledger import read_table

from .corpus import documents


@pytest.fixture
def explain(run_here):
    return partial(run_here, "explain", "--ledger")


def one(curation, asked):
    (subject,) = find_subjects(curation / "ledger", asked)
    return tell(curation / "ledger", subject)


def test_a_dropped_document_says_by_which_rule(curation):
    story = one(curation, "guide/spam.md")
    (decision,) = story["decisions"]
    assert (decision["rule"], decision["value"], decision["limit"]) == ("repeated_trigrams", 0.8, 0.5)
    assert story["texts"][0]["text"] == "Buy now. Buy now. Buy now."
    assert story["claims"] == []


def test_a_copy_names_its_original_and_the_original_its_copies(curation, explain):
    assert one(curation, "guide/copy.md")["decisions"][0]["replacement"] == "atlas/norway.md"
    assert "exact_duplicate of atlas/norway.md" in explain(curation, "guide/copy.md").stdout
    assert one(curation, "atlas/norway.md")["copies"] == ["guide/copy.md"]


def test_a_corrected_document_tells_claim_evidence_verdict_and_edit(curation):
    story = one(curation, "blog/norway.md")
    (told,) = story["claims"]
    assert told["occurrences"][0]["text"] == "The capital of Norway is Bergen."
    assert {row["publisher"] for row in told["evidence"]} == {"Atlas House", "Guide Press"}
    assert [row["stance"] for row in told["verdicts"]] == ["refuted"]
    (edit,) = story["corrections"]
    assert (edit["old"], edit["new"]) == ("The capital of Norway is Bergen.", "The capital of Norway is Oslo.")
    assert [row["gen"] for row in story["generations"]] == [1]


def test_a_claim_is_found_by_the_start_of_its_id_and_a_document_by_that_of_its_hash(curation):
    claim = read_table(curation / "ledger", "claims")[0]
    story = one(curation, claim["claim_id"][:8])
    assert (story["kind"], story["claim"]["text"]) == ("claim", claim["text"])
    assert story["occurrences"][0]["publisher"]
    assert one(curation, documents()[2].sha)["id"] == documents()[2].source


def test_several_that_fit_are_listed(curation):
    assert [s.id for s in find_subjects(curation / "ledger", "norway.md")] == [
        "atlas/norway.md", "blog/norway.md", "guide/norway.md"
    ]  # fmt: skip
    found = find_subjects(curation / "ledger", "rivers on Earth")
    assert {s.kind for s in found} == {"claim", "document"}
    assert "The longest river on Earth is the Nile." in [s.about for s in found]


def test_what_could_not_be_read_says_why(curation):
    assert one(curation, "x.pdf")["rejected"] == ["torn"]


@pytest.mark.parametrize("asked", ["atlas/norwey.md", "norwey.md"])
def test_what_is_unknown_is_one_line_with_what_comes_near(curation, asked):
    with pytest.raises(ValueError, match=r"neither a document.*near it: .*norway\.md"):
        find_subjects(curation / "ledger", asked)
    with pytest.raises(ValueError, match=r"neither a document, a claim nor words of one$"):
        find_subjects(curation / "ledger", "'; drop table xyzzy --")


def test_the_command_shows_people_the_edit_and_programs_everything(curation, explain):
    shown = explain(curation, "blog/norway.md")
    assert shown.returncode == 0, shown.stderr
    assert "[-Bergen.-]{+Oslo.+}" in shown.stdout
    assert "confirmed by two publishers" in shown.stdout
    told = json.loads(explain(curation, "blog/norway.md", "--json").stdout)
    assert told["corrections"][0]["kind"] == "corrected"
    assert explain(curation, "blog/norway.md", "--original").stdout.strip() == documents()[2].text


def test_a_folder_without_a_ledger_is_named(tmp_path, explain):
    done = explain(tmp_path, "anything")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"troth: {tmp_path}: no ledger; name the folder that `troth curate --out` wrote\n"
