"""The ledger: rows of parts in Lance, generations that are never rewritten, and runs that are killed."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import lance
import pytest

from troth.curate.document import Document
from troth.curate.integrate.feeds import Feed, stage_feeds
from troth.curate.integrate.ledger import generations, open_table, read_table, reject_generation, write_generation
from troth.curate.integrate.tables import TABLES
from troth.curate.parts import Parts
from troth.curate.records import GenerationRow, VerdictRow

from .corpus import documents, write_curation


def generation(number: int, **more) -> GenerationRow:
    return GenerationRow(number, "data", "{}", **({"accepted": True} | more))


def rows(folder: Path, number: int | None = None) -> dict[str, list[dict]]:
    return {name: read_table(folder, name, number) for name in [*TABLES, "generations"]}


def test_every_text_is_kept_as_it_was_collected(curation):
    kept = {row["source_id"]: row for row in read_table(curation / "ledger", "documents")}
    for page in documents():
        row = kept[page.source]
        assert (row["text"], row["doc_sha"], row["form"]) == (page.text, page.sha, "collected")
        assert (row["publisher"], row["published_at"], row["licence"]) == (page.publisher, page.published, page.licence)
    assert len(kept) == len(documents()) == len(read_table(curation / "ledger", "documents"))


def test_rows_come_back_as_the_stages_wrote_them(curation):
    tables = rows(curation / "ledger")
    assert {name: len(found) for name, found in tables.items()} == {
        "documents": 10, "rejected": 1, "decisions": 2, "claims": 8, "occurrences": 8, "evidence": 14, "verdicts": 8,
        "findings": 8, "corrections": 1, "generations": 1,
    }  # fmt: skip
    written = list(Parts(curation, "validate").read(0, "verdicts", VerdictRow))
    assert [VerdictRow(**row) for row in tables["verdicts"][: len(written)]] == written


def test_ids_and_words_are_indexed(curation):
    for table in TABLES.values():
        names = {index.name for index in open_table(curation / "ledger", table.name).describe_indices()}
        if read_table(curation / "ledger", table.name):
            assert names == {f"{c}_idx" for c in table.index} | {f"{c}_words" for c in table.search}


def test_a_second_generation_adds_and_rewrites_nothing(tmp_path):
    out = write_curation(tmp_path)
    ledger = out / "ledger"
    write_generation(ledger, generation(1), stage_feeds(out))
    before = rows(ledger)
    write_curation(out, generation=2)
    changed = [Document("new.md", "web", "Lima is the capital of Peru.", "Peru"), *documents()[:2]]
    Parts(out, "collect").write(0, "documents", Document, changed)
    write_generation(ledger, generation(2), stage_feeds(out))
    after = rows(ledger)
    assert rows(ledger, 1) | {"generations": []} == before | {"generations": []}
    for name, found in before.items():
        assert after[name][: len(found)] == found
    assert [row["source_id"] for row in after["documents"][10:]] == ["new.md"]
    assert len(after["claims"]) == 8
    assert [row["generation"] for row in after["verdicts"]] == [1] * 8 + [2] * 8
    assert generations(ledger) == [1, 2]
    with pytest.raises(ValueError, match="holds generation 2; generation 0 cannot be added"):
        write_generation(ledger, generation(0), [])
    with pytest.raises(ValueError, match="no generation 7; it holds 1, 2"):
        read_table(ledger, "claims", 7)


def test_a_generation_that_stands_is_not_written_again(curation):
    before = {name: open_table(curation / "ledger", name).version for name in TABLES}
    write_generation(curation / "ledger", generation(1), [])
    assert {name: open_table(curation / "ledger", name).version for name in TABLES} == before


def test_a_generation_that_a_gate_refused_is_only_on_record(tmp_path):
    out = write_curation(tmp_path)
    ledger = out / "ledger"
    refused = generation(1, accepted=False, reason="false alarms 1.2% are above 0.5%")
    reject_generation(ledger, refused)
    reject_generation(ledger, refused)
    assert generations(ledger) == []
    assert read_table(ledger, "documents") == []
    assert [row["reason"] for row in read_table(ledger, "generations")] == [refused.reason]
    write_generation(ledger, generation(1), stage_feeds(out))
    assert [row["accepted"] for row in read_table(ledger, "generations")] == [False, True]
    assert generations(ledger) == [1]


def test_what_a_run_with_other_parts_left_behind_is_taken_back(tmp_path):
    """Its tables were written, but the generation never came to stand."""
    out = write_curation(tmp_path)
    ledger = out / "ledger"
    write_generation(ledger, generation(1), stage_feeds(out))
    before = rows(ledger)
    other = Parts(out, "other")
    other.write(0, "documents", Document, [Document("other.md", "web", "Never to be seen.")])
    with pytest.raises(OSError, match="No such file"):
        write_generation(
            ledger, generation(2),
            [Feed("documents", (other.file(0, "documents"),), "collected"), Feed("claims", (out / "absent",))],
        )  # fmt: skip
    assert rows(ledger) == before
    write_generation(ledger, generation(2), [])
    assert rows(ledger) | {"generations": []} == before | {"generations": []}


def test_the_same_key_twice_is_one_row_whatever_the_parts(tmp_path):
    page = documents()[0]
    parts = Parts(tmp_path, "collect")
    for part in range(3):
        parts.write(part, "documents", Document, [page] * (part + 1))
        parts.finish(part)
    write_generation(tmp_path / "ledger", generation(1), stage_feeds(tmp_path))
    assert len(read_table(tmp_path / "ledger", "documents")) == 1


WRITE = """
import sys
from pathlib import Path
from troth.curate.integrate import ledger
from troth.curate.integrate.feeds import stage_feeds
from troth.curate.records import GenerationRow
out = Path(sys.argv[1])
ledger._COMMIT_ROWS = 40
feeds = stage_feeds(out)
print("writing", flush=True)
for number in (1, 2):
    ledger.write_generation(out / "ledger", GenerationRow(number, "", "{}", True), feeds)
"""


def _write_many(out: Path) -> None:
    write_curation(out)
    parts = Parts(out, "collect")
    for part in range(12):
        texts = [Document(f"{part}-{n}", "web", f"Page {n} of part {part}. " * 20) for n in range(25)]
        parts.write(part, "documents", Document, texts)
        parts.finish(part)


def _start(out: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    return process


def test_killed_at_any_moment_and_run_again_the_tables_are_the_same(tmp_path):
    whole = tmp_path / "whole"
    _write_many(whole)
    process = _start(whole)
    started = time.monotonic()
    assert process.wait() == 0
    took = time.monotonic() - started
    expected = {number: rows(whole / "ledger", number) for number in (1, 2)}
    draw = random.Random(0)
    killed = 0
    for attempt in range(3):
        out = tmp_path / str(attempt)
        _write_many(out)
        for _ in range(4):
            process = _start(out)
            time.sleep(draw.random() * took / 3)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        assert _start(out).wait() == 0
        assert {number: rows(out / "ledger", number) for number in (1, 2)} == expected
        for name in TABLES:
            data = lance.dataset(str(out / "ledger" / f"{name}.lance"))
            data.validate()
            assert sorted(data.tags.list()) == ["gen-1", "gen-2"]
    assert killed >= 3


def test_parts_without_rows_are_no_matter(tmp_path):
    parts = Parts(tmp_path, "collect")
    for part in range(2):
        parts.write(part, "documents", Document, [])
        parts.finish(part)
    write_generation(tmp_path / "ledger", generation(1), stage_feeds(tmp_path))
    assert read_table(tmp_path / "ledger", "documents") == []
