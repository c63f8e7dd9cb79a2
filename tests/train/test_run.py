"""What a run folder records, who may go on with it, and that it keeps no secrets."""

import json
import re
import subprocess
from pathlib import Path

import pytest

import troth
from troth.system import load_system
from troth.train.environment import code_version, environment
from troth.train.run import add_to_history, open_run, save_record

DATA = {"tokens": {"prose": 1000}, "weights": {"prose": 1.0}, "versions": {"prose": "sha256:ab"}}


@pytest.fixture
def system():
    return load_system("nano")


@pytest.fixture
def run(tmp_path, system):
    open_run(tmp_path / "run", system.model, system.train, DATA, system)
    return tmp_path / "run"


def change(run, edit):
    """Let the record be as though another version of Troth had written it."""
    record = json.loads((run / "run.json").read_text())
    edit(record["settings"])
    save_record(run / "run.json", record)


def test_a_run_records_enough_to_repeat_it(run, system):
    record = json.loads((run / "run.json").read_text())
    assert type(system).model_validate(record["system"]) == system
    assert record["settings"]["data"] == DATA
    assert record["code"]["troth"] == troth.__version__
    about = record["environment"]
    assert about["packages"]["pytest"] == pytest.__version__
    assert about["world_size"] == 1
    assert about["devices"]
    assert about["command"]


def test_each_continuation_is_in_the_history(run, system, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for step in (0, 200, 400):
        record = open_run(run, system.model, system.train, DATA)
        if step == 400:
            monkeypatch.setenv("OMP_NUM_THREADS", "2")
        add_to_history(run, record, step, {})
    first, second, third = json.loads((run / "run.json").read_text())["history"]
    assert [entry["from_step"] for entry in (first, second, third)] == [0, 200, 400]
    assert all(entry["world_size"] == 1 and entry["host"] and entry["time"] for entry in (first, second, third))
    assert "environment" not in second  # as it was
    assert third["environment"]["variables"]["OMP_NUM_THREADS"] == "2"


def test_a_setting_that_came_later_counts_as_its_default(run, system):
    change(run, lambda settings: (settings["train"].pop("z_loss"), settings["model"].pop("attention_sinks")))
    open_run(run, system.model, system.train, DATA)
    with pytest.raises(ValueError, match=re.escape("was started with train.z_loss=0.0, not 0.001")):
        open_run(run, system.model, system.train.model_copy(update={"z_loss": 0.001}), DATA)


def test_what_an_older_record_does_not_say_of_the_data_is_taken_as_it_is(run, system):
    change(run, lambda settings: settings["data"].pop("versions"))
    open_run(run, system.model, system.train, DATA)
    with pytest.raises(ValueError, match=re.escape("was started with data.tokens={'prose': 1000}, not {}")):
        open_run(run, system.model, system.train, DATA | {"tokens": {}})


def test_a_setting_that_is_gone_is_named(run, system):
    change(run, lambda settings: settings["train"].update(momentum=0.9))
    with pytest.raises(ValueError, match=re.escape(f"{run / 'run.json'}: train.momentum: this version of Troth")):
        open_run(run, system.model, system.train, DATA)


@pytest.mark.parametrize("text", ["", "{}", "[]"])
def test_a_damaged_record_is_named(run, system, text):
    (run / "run.json").write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{run}/run.json: not the record of a run")):
        open_run(run, system.model, system.train, DATA)


def test_secrets_stay_out(monkeypatch):
    monkeypatch.setenv("TORCH_HUB_TOKEN", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.setattr("sys.argv", ["troth", "train", "s3://me:hunter2@bucket/corpus"])
    about = environment()
    assert "hunter2" not in json.dumps(about)
    assert about["variables"]["NCCL_DEBUG"] == "INFO"
    assert about["command"][-1] == "s3://bucket/corpus"


def test_the_commit_is_that_of_this_checkout():
    root = Path(__file__).parents[2]
    done = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if done.returncode or not Path(troth.__file__).is_relative_to(root):
        pytest.skip("not run from a checkout")
    assert code_version()["commit"] == done.stdout.strip()


def test_the_folder_that_a_run_began_with_may_be_spelled_otherwise(system, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    record = open_run(tmp_path / "tuned", system.model, system.train, DATA | {"start": "base"})
    for spelled in ("base", "./base/", f"{tmp_path}/base", "link"):
        assert open_run(tmp_path / "tuned", system.model, system.train, DATA | {"start": spelled}) == record
    with pytest.raises(ValueError, match=re.escape("was started with data.start='base', not 'other'")):
        open_run(tmp_path / "tuned", system.model, system.train, DATA | {"start": "other"})
