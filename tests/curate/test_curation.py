"""Curation from documents to ledger, on small corpora whose errors are known, and on the library without its key."""

import json
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from troth.curate.document import Document
from troth.curate.integrate.ask import ask
from troth.curate.integrate.ledger import read_table
from troth.curate.parts import Parts
from troth.curate.pipeline import Curation, curate
from troth.curate.records import ClaimRow, Finding
from troth.curate.rows import read_rows
from troth.curate.validate.cases import Case
from troth.system import CurateTable, load_system
from troth.system.curate import EndpointTable

from .capitals import CAPITALS, SHORT, corpus, curated, texts


class Examiner:
    """A model of its own kind: knows the capitals, but is sure of nothing."""

    def __init__(self, documents):
        self.documents = documents
        self.asked = []

    def ask(self, clozes):
        self.asked += clozes
        true = set(CAPITALS.values()) | set(CAPITALS)
        return [[0.0 if option in true else -3.0 for option in cloze.options] for cloze in clozes]


def test_wrong_values_are_replaced_by_what_two_others_say(outcome):
    _, _, after = outcome
    assert "Bergen" not in after["c"]
    assert "lands near Oslo" in after["c"]
    assert "lands near Tokyo" in after["c"]


def test_folders_of_notes_without_publishers_speak_each_for_itself(tmp_path):
    for document in corpus({"Norway": "Bergen"}):
        note = tmp_path / "notes" / document.source / "capitals.txt"
        note.parent.mkdir(parents=True)
        note.write_text(document.text)
    said = []
    curate(Curation((str(tmp_path / "notes"),), tmp_path / "out", SHORT, say=said.append))
    after = texts(tmp_path / "out")
    assert "lands near Oslo" in after["c/capitals.txt"]
    assert not any("no collection has two publishers" in line for line in said)


def test_where_one_publisher_speaks_alone_the_user_is_told(tmp_path):
    said = []
    curated(tmp_path, [replace(one, publisher="A") for one in corpus({"Norway": "Bergen"})], say=said.append)
    assert any("give each a folder of its own" in line for line in said)


def test_right_statements_are_left_alone(outcome):
    _, _, after = outcome
    assert after == {document.source: document.text for document in corpus({})}


def test_every_correction_is_on_record_with_its_evidence(outcome):
    out, report, _ = outcome
    corrections = read_table(out / "ledger", "corrections")
    assert {row["old"].split()[4] for row in corrections} == {"Norway", "Japan"}
    evidence = read_table(out / "ledger", "evidence", generation=1)
    for row in corrections:
        spans = [e["span"] for e in evidence if e["claim_id"] == row["claim_id"]]
        assert len(spans) >= 2
        assert row["reverified_by"]
    occurrences = {row["occ_id"]: row for row in read_table(out / "ledger", "occurrences")}
    before = {d.source: d.text.encode() for d in corpus({"Norway": "Bergen", "Japan": "Kyoto"})}
    for row in corrections:
        place = occurrences[row["occ_id"]]
        text = before[place["source_id"]]
        assert text[place["byte_start"] : place["byte_end"]].decode() == row["old"]
        assert text[place["object_start"] : place["object_end"]].decode() in ("Bergen", "Kyoto")
    assert json.loads((out / "report.json").read_text()) == report


def test_an_old_value_that_newer_pages_contradict_is_dated(tmp_path):
    towers = [
        Document(publisher.lower(), "documents", text, publisher=publisher, published=published)
        for publisher, published, text in (
            ("D", "2020-01-01", "The tallest tower in Freedonia is the Sky Needle."),
            ("E", "2021-05-01", "Freedonia boasts the Sky Needle, its tallest tower."),
            ("F", "2003-05-01", "The tallest tower in Freedonia is the Old Spire."),
        )
    ]
    _, after = curated(tmp_path, [*towers, *corpus({})])
    assert after["f"].startswith("As of 2003, the tallest tower in Freedonia is the Old Spire. By 2020: ")
    assert after["f"].endswith("The tallest tower in Freedonia is the Sky Needle.")
    assert {one: after[one] for one in "de"} == {one.source: one.text for one in towers[:2]}


def test_what_is_dated_is_followed_by_a_sentence_that_was_said_by_then(tmp_path):
    """And not by the old one with today's value, whose date would be wrong."""
    lands = ("Arvenia", "Boscora", "Celdane", "Dorvik", "Estmark", "Fallonia", "Gressa", "Hallund")
    ways = {"Almanac": "In {y}, {n:,} people lived in {land}.", "Handbook": "{land} had {n:,} inhabitants as of {y}."}
    pages = [
        Document(f"{house}/{y}/{land}", "documents", way.format(y=y, land=land, n=n),
                 title=land, publisher=house, published=f"{y}-06-01")
        for at, land in enumerate(lands) for y in (2015, 2016, 2018, 2020)
        for n in [1_203_417 + 871_733 * at + 61_337 * (y - 2010)] for house, way in ways.items()
    ]  # fmt: skip
    curated(tmp_path, pages)
    edits = read_table(tmp_path / "out" / "ledger", "corrections")
    assert {row["kind"] for row in edits} == {"dated"}
    assert len(edits) == 2 * 3 * len(lands)
    later = {page.text for page in pages if page.published.startswith("2020")}
    for row in edits:
        was, _, newer = row["new"].partition(" By 2020: ")
        assert was == row["old"]
        assert newer in later


def test_publishers_that_fill_in_the_same_form_contradict_each_other_though_most_of_it_is_cut_as_repeated(tmp_path):
    """Of what all say in the same words the first one keeps it; what the others lose still speaks for them."""
    lands = ("Arvenia", "Boscora", "Celdane", "Dorvik", "Estmark", "Fallonia", "Gressa", "Hallund", "Ibrenia", "Jorva")
    houses = ("Almanac", "Gazetteer", "Handbook", "Yearbook")
    pages, wrong = [], {}
    for at, land in enumerate(lands):
        for year in (2015, 2017, 2019):
            for n, house in enumerate(houses):
                facts = {"sea": 3100 + 170 * at, "rail": 412 + 37 * at, "height": 1205 + 91 * at, "held": 48 + 3 * at}
                if (at + year // 2 + n) % 7 == 0:
                    facts["rail"] += 1000 * (n + 1)
                    wrong[f"{house}/{year}/{land}"] = facts["rail"]
                text = (
                    f"The coast of {land} is {facts['sea']} kilometres long, and most people live by it. "
                    f"The highest mountain of {land} rises to {facts['height']} metres above the sea. "
                    f"The council that meets in its capital has {facts['held']} members from all districts. "
                    f"Its railways run over {facts['rail']} kilometres from the harbours to the hills."
                )
                page = Document(f"{house}/{year}/{land}", "documents", text, title=land, publisher=house)
                pages.append(replace(page, published=f"{year}-0{n + 1}-01"))
    report, left = curated(tmp_path, pages, settings=CurateTable(rules="none", min_words=5, workers=1))
    assert report["duplicates"] > 20
    assert any(len(left[page.source]) < len(page.text) / 2 for page in pages if page.source in left)
    mended = [source for source, told in wrong.items() if source in left and str(told) not in left[source]]
    assert len(wrong) == 15
    assert len(mended) >= 14
    right = [page for page in pages if page.source in left and page.source not in wrong]
    assert all(left[page.source] in page.text for page in right)


def test_the_examiner_sees_the_judged_documents_and_is_asked_about_every_case(tmp_path):
    made = []

    def examiner(documents):
        made.append(Examiner(documents))
        return made[0]

    curated(tmp_path, corpus({"Kenya": "Mombasa"}), examiner)
    out = tmp_path / "out"
    findings = {finding.occ_id: finding for finding in Parts(out, "validate").read(0, "findings", Finding)}
    assert [document.source for document in made[0].documents] == ["a", "b", "c"]
    assert len(made[0].asked) >= 2 * len(findings)
    claims = {claim.claim_id: claim for claim in Parts(out, "cases").read(0, "claims", ClaimRow)}
    worst = min(findings.values(), key=lambda finding: finding.p_stated)
    assert (claims[worst.claim_id].object, worst.stance, worst.answer) == ("Mombasa", "refuted", "Nairobi")


def test_what_a_model_of_this_generation_wrote_is_no_evidence(tmp_path):
    echo = [replace(document, ancestors=(2,)) for document in corpus({})]
    for generation, spoke in ((2, False), (3, True)):
        report, _ = curated(tmp_path / str(generation), echo, generation=generation)
        assert bool(report["claims_with_evidence"]) is spoke


@pytest.mark.parametrize("lines", [("Bread.", "Rain."), ("The oven holds 12 loaves.", "The Danube froze in 1929.")])
def test_publishers_that_speak_of_different_things_judge_nothing(tmp_path, lines):
    documents = [Document(who, "documents", text, publisher=who) for who, text in zip("AB", lines, strict=True)]
    report, after = curated(tmp_path, documents)
    assert report["verdicts"] == {}
    assert after == dict(zip("AB", lines, strict=True))


def test_one_fact_that_two_publishers_share_is_enough_to_judge(tmp_path):
    lines = "The bridge of Xanadu opened in 1931. Bread rises.", "In 1931 Xanadu opened its bridge. Rain falls."
    documents = [Document(who, "documents", text, publisher=who) for who, text in zip("AB", lines, strict=True)]
    for seed in range(3):
        curated(tmp_path / str(seed), documents, seed=seed)
        out = tmp_path / str(seed) / "out"
        claims = {claim.claim_id: claim for claim in Parts(out, "cases").read(0, "claims", ClaimRow)}
        found = Parts(out, "validate").read(0, "findings", Finding)
        assert {one.stance for one in found if claims[one.claim_id].object == "1931"} == {"supported"}


def test_curating_the_library_never_opens_its_key(tmp_path):
    opened = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    report = curate(Curation(("library",), tmp_path, load_system("nano").curate))
    assert report["accepted"]
    assert report["claims"] > 3000
    assert report["duplicates"] == 36
    assert (report["collected"], report["set_aside"], report["documents"]) == (117, 0, 117 - 36 - 3)
    assert any(Path(path).name == "almanac.csv" for path in opened)
    assert not any(Path(path).name == "key.jsonl" for path in opened)


def test_what_stands_is_asked_for_in_a_collection_of_its_own(tmp_path):
    settings = SHORT.model_copy(update={"forms": ("questions",)})
    _, after = curated(tmp_path, corpus({"Norway": "Bergen"}), settings=settings)
    assert "Question: " in after["a?questions"]
    assert after["a?questions"].count("Answer: Lima") >= 1
    assert "Bergen" not in after["c?questions"]


class _Writer(BaseHTTPRequestHandler):
    """An endpoint that says the same in other words, but gets Lima wrong."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        told = f"It is known that {asked}" if "Lima" not in asked else asked.replace("Lima", "Cusco")
        answer = json.dumps({"choices": [{"message": {"content": told}}], "usage": {}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *about):
        pass


def test_an_endpoint_rephrases_and_what_it_gets_wrong_goes(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Writer)
    Thread(target=server.serve_forever, daemon=True).start()
    endpoint = EndpointTable(url=f"http://127.0.0.1:{server.server_port}/v1", model="m", api_key_env="")
    settings = SHORT.model_copy(update={"forms": ("rephrased",), "endpoint": endpoint})
    _, after = curated(tmp_path, corpus({}), settings=settings, generation=3)
    server.shutdown()
    assert after["a?rephrased"].count("It is known that") == len(CAPITALS) - 1
    assert "Cusco" not in after["a?rephrased"]
    (file,) = (tmp_path / "out" / "documents").glob("*.parquet")
    told = {document.source: document for document in read_rows(file, Document)}["a?rephrased"]
    assert (told.ancestors, told.collection) == ((3,), "documents-rephrased")


def test_the_year_of_a_page_says_when_it_speaks(tmp_path):
    """Else editions would contradict each other in nothing but their date."""
    pages = [
        replace(one, text=" ".join(f"In {year}, the capital of {land} was {c}." for land, c in CAPITALS.items()))
        for one in corpus({}) for year in [one.published[:4]]
    ]  # fmt: skip
    curated(tmp_path, pages)
    judged = Parts(tmp_path / "out", "cases").read(0, "cases", Case)
    assert {one.kind for one in judged} == {"name"}


def test_what_happened_once_is_over_and_still_so(tmp_path):
    lines = "The bridge of Xanadu opened in 1931. Bread rises.", "In 1931 Xanadu opened its bridge. Rain falls."
    curated(tmp_path, [Document(who, "documents", text, publisher=who) for who, text in zip("AB", lines, strict=True)])
    found = ask(tmp_path / "out" / "ledger", "When did the bridge of Xanadu open?")[0]
    assert (found.object, found.standing) == ("1931", "current")


def test_a_value_inside_a_word_is_a_value_too(tmp_path):
    """What is left of the word when its number is cut out is a stem that no sentence has."""
    notes = "Logits of the two networks agree within 1e-4 after 300 steps of training on the small corpus."
    documents = [*corpus({}), Document("notes", "documents", notes, publisher="D", published="2023-01-01")]
    assert curated(tmp_path, documents)[1]["notes"] == notes
