"""`troth plan check`: tables for people, JSON for programs, a picture, and what it says of a table that is none."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from troth.cli.main import app
from troth.plan.check import GROUPS
from troth.plan.published import NEEDED

from .page.conftest import Parsed

LLAMA = {"model": "Llama 3.1 70B", "seq": "8192", "gpu": "H100-80GB-SXM", "tp": "4", "pp": "4", "vpp": "5", "cp": "2",
         "micro_batch": "1", "precision": "bf16", "notes": ""}  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Llama 3.1 70B as three clusters could have run it, and a row that says too little."""
    measured = (("a", 64, 14.5), ("a", 128, 14.6), ("b", 256, 14.7), ("b", 512, 14.8), ("c", 1024, 14.9))
    rows = [
        LLAMA | {"source": f"cluster {name}@v25.04.02", "n_gpus": str(gpus), "step_time_s": str(seconds),
                 "global_batch_sequences": str(2 * gpus)}
        for name, gpus, seconds in measured
    ]  # fmt: skip
    path = tmp_path / "published.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({*NEEDED, *rows[0]}))
        writer.writeheader()
        writer.writerows([*rows, rows[0] | {"model": "Another network"}])
    return path


def test_for_people(table: Path, tmp_path: Path) -> None:
    picture = tmp_path / "check.svg"
    done = CliRunner().invoke(app, ["plan", "check", str(table), "--plot", str(picture)])
    assert done.exit_code == 0, done.output
    assert "5 runs of 6 rows" in done.output
    assert "source left out" in done.output
    assert "the network's sizes are not said" in " ".join(done.output.split())
    assert picture.read_text().startswith("<?xml")


def test_as_a_page(table: Path, tmp_path: Path) -> None:
    page = tmp_path / "check.html"
    done = CliRunner().invoke(app, ["plan", "check", str(table), "--html", str(page)])
    assert done.exit_code == 0, done.output
    parsed = Parsed(page.read_text())
    assert [row[:2] for row in parsed.tables["Seconds a step, all runs"][1:3]] == [
        ["as calibrated", "5"], ["source left out", "5"],
    ]  # fmt: skip
    assert [row[0] for row in parsed.tables["Errors by source"][1:]] == [f"cluster {name}@v25.04.02" for name in "abc"]
    assert parsed.tables["Rows that say too little"][1:] == [["the network's sizes are not said", "1"]]
    pictures = [given["aria-label"] for tag, given in parsed.elements if tag == "svg"]
    assert len(pictures) == 1 + len(GROUPS)
    # Every run is a point of each picture.
    assert sum(tag == "circle" for tag, _ in parsed.elements) == 5 * len(pictures)


def test_for_programs_and_after_a_fit_to_the_table(table: Path) -> None:
    done = CliRunner().invoke(app, ["plan", "check", str(table), "--fit", "--no-cross-validate", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["errors"]["as calibrated"]["count"] == 5
    assert found["errors"]["as calibrated"]["median"] < 0.05
    assert found["errors"]["source left out"] is None
    assert [row["reason"] for row in found["not_predicted"]] == ["the network's sizes are not said"]
    assert {row["line"] for row in found["rows"]} == {2, 3, 4, 5, 6}


def test_a_table_of_one_source_has_none_to_leave_out(table: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.csv"
    rows = table.read_text(encoding="utf-8")
    one.write_text(rows.replace("cluster b", "cluster a").replace("cluster c", "cluster a"), encoding="utf-8")
    done = CliRunner().invoke(app, ["plan", "check", str(one), "--json"])
    assert done.exit_code == 0, done.output
    assert "all rows are from one source" in done.stderr
    errors = json.loads(done.stdout)["errors"]
    assert (errors["as calibrated"]["count"], errors["source left out"]) == (5, None)


def test_why_no_row_can_be_predicted_is_said(table: Path, tmp_path: Path) -> None:
    none = tmp_path / "none.csv"
    none.write_text(table.read_text(encoding="utf-8").replace("Llama 3.1 70B", "Another network"))
    done = CliRunner().invoke(app, ["plan", "check", str(none)])
    assert isinstance(done.exception, ValueError)
    assert "no row says enough to be predicted; line 2: the network's sizes are not said" in str(done.exception)


def test_a_table_that_is_not_there_or_none(tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, ["plan", "check", str(tmp_path / "nothing.csv")])
    assert isinstance(missing.exception, OSError)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    done = CliRunner().invoke(app, ["plan", "check", str(other)])
    assert isinstance(done.exception, ValueError)
    assert "no column source, model" in str(done.exception)
