"""What goes out with the documents: mixture, card, Croissant, lineage; each read by what it is made for."""

import json
import subprocess
import sys
import tomllib
from dataclasses import asdict, replace

import pytest
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState

from troth.curate.balance.report import Balance, Line
from troth.curate.document import Document
from troth.curate.integrate.lineage import traced
from troth.curate.integrate.publish import publish
from troth.curate.rows import write_rows
from troth.curate.validate.canaries import Canary, measure
from troth.system import load_system
from troth.train.documents import read_documents

from .corpus import documents, write_curation

CANARIES = [Canary(str(n), "number moved" if n % 2 else "", n % 4 == 1, n % 8 == 1) for n in range(40)]
REPORT = {
    "canaries": asdict(measure(CANARIES, 0.1)),
    "balance": Balance(
        (10, 8), (0.1, 0.05), {"topic": (1.5, 1.25)}, [Line("topic", "0", "rivers | lakes", 10, 8)], []
    ).as_json(),
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    out = write_curation(tmp_path_factory.mktemp("published") / "it's curated")
    kept = [page for page in documents() if page.title != "Offers" and page.source != "guide/copy.md"]
    lima = "Lima is the capital of Peru."
    facts = Document("facts.csv#0", "facts", lima, language="en", licence="CC0-1.0", weight=0.5)
    write_rows(out / "documents" / "00000.parquet", Document, kept)
    write_rows(out / "documents" / "00001.parquet", Document, [replace(facts, ancestors=(1,)), facts])
    mixed = publish(out, REPORT, generation=3, published="2026-11-24")
    return out, mixed


def test_the_mixture_is_a_table_that_training_reads(published):
    out, mixed = published
    table = tomllib.loads((out / "data.toml").read_text())["data"]
    assert set(table["weights"]) == {"web", "facts"}
    assert sum(mixed.shares.values()) == pytest.approx(1)
    changes = [f"data.sources={json.dumps(table['sources'])}", f"data.weights={{web = {table['weights']['web']}}}"]
    assert load_system("nano", changes).data.weights["web"] == pytest.approx(mixed.shares["web"], rel=1e-5)
    read = list(read_documents(table["sources"]))
    assert {(name, weight) for name, _, weight in read} == {("web", 1.0), ("facts", 0.5)}
    assert len(read) == 10


def test_a_collection_weighs_by_its_bytes_as_read_and_by_what_stands(published):
    _, mixed = published
    assert mixed.weighted_bytes["facts"] == 2 * 0.5 * len("Lima is the capital of Peru.")
    assert mixed.standing["web"] == pytest.approx((8 - 1 + 20 * 7 / 8) / 28)


def test_the_card_says_what_is_in_it_and_what_went(published):
    out, _ = published
    card = (out / "README.md").read_text()
    front, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert "license:\n- cc-by-4.0\n- cc0-1.0" in front
    assert 'language:\n- "en"' in front
    assert "size_categories:\n- n<1K" in front
    assert "path: documents/*.parquet" in front
    for line in (
        "| filter | dropped | repeated_trigrams | 1 |",
        "| duplicates | dropped | exact_duplicate | 1 |",
        "| corrected | 1 |",
        "| planted errors caught | 10 of 20 | 50.00% | 29.93% to 70.07% |",
        "| topic | rivers \\| lakes | 10 | 8 | 80% |",
        "| topic | 1.5 | 1.25 |",
        "| CC-BY-4.0 | 8 |",
        "## Limits",
    ):
        assert line in body, line


def test_the_card_of_the_same_curation_is_the_same(published):
    out, _ = published
    names = "README.md", "croissant.json", "data.toml"
    before = [(out / name).read_bytes() for name in names]
    publish(out, REPORT, generation=3, published="2026-11-24")
    assert [(out / name).read_bytes() for name in names] == before


READ = """
import json, sys, mlcroissant
data = mlcroissant.Dataset(jsonld=sys.argv[1])
records = [{name: str(value, "utf-8") if isinstance(value, bytes) else value for name, value in record.items()}
           for record in data.records("documents")]
print(json.dumps([data.metadata.issues.report(), records]))
"""


def test_croissant_is_valid_and_gives_the_documents(published):
    """In a process of its own, for the package takes over the logging of the one that it is in."""
    out, _ = published
    command = [sys.executable, "-c", READ, str(out / "croissant.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    complaints, records = json.loads(done.stdout)
    assert not complaints
    assert len(records) == 10
    assert {record["documents/collection"] for record in records} == {"web", "facts"}
    assert records[8]["documents/ancestors"] == [1]
    assert records[8]["documents/weight"] == 0.5


def events(out):
    """Every line as an event of OpenLineage's own client, which refuses what the spec does not allow."""
    found = []
    for line in (out / "lineage.jsonl").read_text().splitlines():
        event = json.loads(line)
        assert event["schemaURL"].endswith("#/$defs/RunEvent")
        RunEvent(
            eventType=RunState(event["eventType"]), eventTime=event["eventTime"], producer=event["producer"],
            run=Run(**event["run"]), job=Job(**event["job"]),
            inputs=[InputDataset(**data) for data in event["inputs"]],
            outputs=[OutputDataset(**data) for data in event["outputs"]],
        )  # fmt: skip
        found.append(event)
    return found


def test_lineage_tells_what_each_stage_read_and_wrote(curation, tmp_path):
    out = write_curation(tmp_path)
    with traced(out, "collect", sources=["s3://bucket/pages", str(out)]):
        pass
    with pytest.raises(OSError, match="disk full"), traced(out, "filter", reads=["collect"]):
        raise OSError("disk full")
    with (out / "lineage.jsonl").open("a") as file:
        file.write('{"eventType": "STA')
    with traced(out, "filter", reads=["collect"]):
        pass
    told = events(out)
    assert [(e["job"]["name"], e["eventType"]) for e in told] == [
        ("curate.collect", "START"), ("curate.collect", "COMPLETE"), ("curate.filter", "START"),
        ("curate.filter", "FAIL"), ("curate.filter", "START"), ("curate.filter", "COMPLETE"),
    ]  # fmt: skip
    runs = [e["run"]["runId"] for e in told]
    assert [runs[i] == runs[i + 1] for i in range(5)] == [True, False, True, False, True]
    assert (told[0]["inputs"][0]["namespace"], told[0]["inputs"][0]["name"]) == ("s3://bucket", "pages")
    documents_out = next(d for d in told[1]["outputs"] if d["name"].endswith("/documents"))
    assert documents_out["outputFacets"]["outputStatistics"]["rowCount"] == 10
    assert {"name": "text", "type": "string"} in documents_out["facets"]["schema"]["fields"]
    assert told[5]["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] == 10
    assert "disk full" in told[3]["run"]["facets"]["errorMessage"]["message"]
