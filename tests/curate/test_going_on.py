"""Curating into a folder in which a curation was begun, finished, refused or killed before."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from troth.curate.integrate.ledger import read_table
from troth.curate.pipeline import Curation, curate
from troth.curate.validate import timelines
from troth.system.lock import held

from .capitals import SHORT, corpus, curated, texts

KILLED = """
import json
import sys
from pathlib import Path
from troth.curate.pipeline import Curation, curate
from troth.system import CurateTable
curate(Curation((sys.argv[1],), Path(sys.argv[2]), CurateTable(**json.loads(sys.argv[3]))))
"""
STAGES = (
    "collect", "filter", "duplicates", "timelines", "index", "neighbours", "cases", "judge", "opinions", "validate",
    "refine", "../ledger",
)  # fmt: skip


def test_a_finished_curation_is_not_done_again(outcome):
    out, report, _ = outcome
    assert curate(Curation((str(out.parent / "raw.parquet"),), out, SHORT)) == report


def test_a_folder_of_other_settings_is_refused(outcome):
    out, _, _ = outcome
    other = SHORT.model_copy(update={"act_above": 0.4})
    with pytest.raises(ValueError, match=rf"other curate.act_above \({SHORT.act_above}, now 0.4\); curate elsewhere"):
        curate(Curation((str(out.parent / "raw.parquet"),), out, other))


def test_what_another_version_left_half_done_is_refused_and_what_it_finished_is_not(outcome, tmp_path):
    out, report, _ = outcome
    for name in ("run.json", "report.json"):
        (tmp_path / name).write_text((out / name).read_text())
    written = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(written | {"tables": 1}))
    again = Curation((str(out.parent / "raw.parquet"),), tmp_path, SHORT)
    assert curate(again) == report
    (tmp_path / "report.json").unlink()
    with pytest.raises(ValueError, match="begun by another version of Troth and not finished; curate elsewhere"):
        curate(again)


def test_a_second_run_at_once_is_refused_and_names_the_first(tmp_path):
    busy = r"process \d+ on .* is curating into"
    with held(tmp_path / "out", "curating into"), pytest.raises(ValueError, match=busy):
        curated(tmp_path, corpus({}))


def test_a_run_of_too_many_false_alarms_is_not_integrated(tmp_path, monkeypatch):
    monkeypatch.setattr(timelines, "_MOST_BYTES", 0)  # too large a collection for them, who would overrule the alarms
    strict = SHORT.model_copy(update={"act_above": 0.001, "max_false_alarms": 0.0})
    report, after = curated(tmp_path, corpus({"Norway": "Bergen", "Japan": "Kyoto"}), settings=strict)
    assert not report["accepted"]
    assert "claims that others confirm were flagged" in report["reason"]
    assert after == {}
    (row,) = read_table(tmp_path / "out" / "ledger", "generations")
    assert (row["accepted"], row["reason"]) == (False, report["reason"])
    # With another limit it is decided anew, once: what is published stays.
    run = Curation((str(tmp_path / "raw.parquet"),), tmp_path / "out", strict)
    assert curate(replace(run, settings=strict.model_copy(update={"max_false_alarms": 1.0})))["accepted"]
    assert texts(tmp_path / "out").keys() == {"a", "b", "c"}
    with pytest.raises(ValueError, match=r"begun with other curate.max_false_alarms \(1.0, now 0.0\)"):
        curate(run)


@pytest.mark.slow
def test_a_run_killed_as_each_stage_begins_ends_as_one_that_was_not(tmp_path):
    undisturbed, after = curated(tmp_path, corpus({"Norway": "Bergen", "Japan": "Kyoto"}))
    where = str(tmp_path / "raw.parquet"), str(tmp_path / "killed")
    command = [sys.executable, "-c", KILLED, *where, SHORT.model_dump_json()]
    for stage in STAGES:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (tmp_path / "killed" / "work" / stage).exists():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, stage
    subprocess.run(command, check=True)
    assert json.loads((tmp_path / "killed" / "report.json").read_text()) == undisturbed
    assert texts(tmp_path / "killed") == after
    for table in ("documents", "claims", "occurrences", "evidence", "verdicts", "decisions", "corrections"):
        one, other = (read_table(tmp_path / folder / "ledger", table) for folder in ("out", "killed"))
        assert sorted(map(repr, one)) == sorted(map(repr, other)), table
