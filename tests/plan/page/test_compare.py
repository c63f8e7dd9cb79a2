"""An earlier plan beside the one of now, on the terminal and on the page."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from troth.cli.plan import app
from troth.plan.compare import Difference, compare, read_plan


def test_twice_the_tokens_take_twice_the_days(training: Any, parse: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    twice = [*training.command[:-1], "2T", "--compare", str(training.json_file), "--html", str(page)]
    done = CliRunner().invoke(app, twice, env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    [row] = [line for line in done.stdout.splitlines() if "time, days" in line]
    assert "× 2" in row
    days = training.plan["duration"]["days"]
    tables = parse(page.read_text(encoding="utf-8")).tables
    shown = {line[0]: line[1:] for line in tables[f"This plan beside {training.json_file}"][1:]}
    assert shown["tokens, billion"] == ["1,000", "2,000", "+1,000", "× 2"]
    assert float(shown["time, days"][0].replace(",", "")) == pytest.approx(days, rel=1e-3)
    assert shown["layout"][0] == shown["layout"][1]


def test_a_plan_is_like_itself(training: Any, fleet: Any) -> None:
    for kind, made in (("train", training), ("serve", fleet)):
        rows = compare(read_plan(made.json_file, kind), made.plan, kind)
        assert len(rows) > 15
        assert all(row.before == row.after and row.difference in (0, None) for row in rows)


def test_differences_of_words_and_from_nothing() -> None:
    assert Difference("GPU", "H100", "B200", "").cells() == ["GPU", "H100", "B200", "", ""]
    assert Difference("prefill", 0, 8, "GPUs").cells() == ["prefill, GPUs", "0", "8", "+8", ""]
    assert Difference("step", 2.0, 1.5, "s").cells() == ["step, s", "2", "1.5", "-0.5", "× 0.75"]


@pytest.mark.parametrize(("text", "said"), [
    ("not JSON", "no plan; save one with"), ("[1]", "no plan"), ('{"loss": 1}', "no plan"), (None, "no plan"),
])  # fmt: skip
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "plan.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        read_plan(file, "train")


def test_a_plan_that_was_cut_is_refused(training: Any, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text('{"candidates": [], "goodputs": {}, "duration": {}}', encoding="utf-8")
    with pytest.raises(ValueError, match="the earlier plan has no 'system'; save it anew with --json"):
        compare(read_plan(file, "train"), training.plan, "train")


def test_a_plan_of_the_other_kind_is_refused(training: Any, fleet: Any) -> None:
    for one, other in ((training, fleet), (fleet, training)):
        done = CliRunner().invoke(app, [*one.command, "--compare", str(other.json_file)])
        (mine, *_), (theirs, *_) = one.command, other.command
        assert f"a plan of `troth plan {theirs}`; expected one of `troth plan {mine}`" in str(done.exception)
