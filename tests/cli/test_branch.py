"""`troth train --branch RUN@STEP`: a run begins where another stands, with settings of its own."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

SETTINGS = [
    "data.weights={ documents = 1.0 }", "train.steps=6", "model.vocab_size=300", "model.hidden_size=32",
    "model.intermediate_size=48", "model.moe_intermediate_size=16", "model.num_dense_layers=1",
    "model.num_attention_heads=2", "model.num_key_value_heads=1", "model.head_dim=16", "model.num_experts=4",
    "model.sliding_window=32", "train.precision=float32", "train.sequence_length=64", "train.batch_tokens=256",
    "train.checkpoint_every=2", "train.keep_checkpoints=9", "train.log_every=1",
]  # fmt: skip
TEXT = "Dodoma is the capital of Tanzania. Abuja is the capital of Nigeria. All that glitters is not gold. "


@pytest.fixture
def train(run_here, tmp_path):
    documents = tmp_path / "documents.jsonl"
    documents.write_text("".join(json.dumps({"text": f"{TEXT * 3} {number}"}) + "\n" for number in range(20)))

    def run(*arguments, settings=()):
        changes = (word for change in (*SETTINGS, *settings) for word in ("--set", change))
        return run_here("train", documents, *arguments, *changes)

    return run


def reports(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines}


def weights(run):
    return load_file(run / "model" / "model.safetensors")


@pytest.fixture
def main_run(train, tmp_path):
    done = train("--out", tmp_path / "main")
    assert done.returncode == 0, done.stderr
    return tmp_path / "main"


def test_with_the_same_settings_it_is_the_same_run_to_the_bit(train, main_run, tmp_path):
    done = train("--branch", f"{main_run}@2", "--out", tmp_path / "branch")
    assert done.returncode == 0, done.stderr
    ours, theirs = reports(tmp_path / "branch"), reports(main_run)
    assert list(ours) == [3, 4, 5, 6]
    for step, report in ours.items():
        assert all(report[key] == theirs[step][key] for key in ("loss", "grad_norm", "lr_share", "tokens"))
    expected = weights(main_run)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "branch").items())


def test_it_may_be_longer_with_larger_batches_and_have_a_branch_itself(train, main_run, tmp_path):
    longer = ["train.steps=9", "train.batch_tokens=512", "train.muon_lr=0.001"]
    asked = "--branch", main_run, "--out", tmp_path / "longer"
    done = train(*asked, settings=longer)
    assert done.returncode == 0, done.stderr
    told = {step: report["tokens"] for step, report in reports(tmp_path / "longer").items()}
    assert told == {7: 6 * 256 + 512, 8: 6 * 256 + 2 * 512, 9: 6 * 256 + 3 * 512}

    # What it needs of the run that it left is in its own checkpoints by now.
    shutil.rmtree(main_run / "checkpoints")
    expected = weights(tmp_path / "longer")
    shutil.rmtree(tmp_path / "longer" / "model")
    done = train(*asked, settings=longer)
    assert done.returncode == 0, done.stderr
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "longer").items())

    done = train("--branch", f"{tmp_path / 'longer'}@8", "--out", tmp_path / "again", settings=["train.steps=9"])
    assert done.returncode == 0, done.stderr
    assert {step: report["tokens"] for step, report in reports(tmp_path / "again").items()} == {9: told[8] + 256}


def test_what_cannot_be_branched_from_is_named(train, main_run, tmp_path):
    out = tmp_path / "branch"
    for branch, settings, told in (
        (tmp_path, [], f"--branch {tmp_path}: {tmp_path} is no run's folder (no run.json); expected RUN or RUN@STEP"),
        (f"{main_run}@3", [], f"{main_run}/checkpoints: has no checkpoint of step 3; there are: 2, 4, 6"),
        (f"{main_run}@4", ["train.steps=4"], "train.steps=4: the branch begins after step 4; set more"),
        (f"{main_run}@4", ["model.hidden_size=64"], "has shape"),
    ):
        done = train("--branch", branch, "--out", out, settings=settings)
        assert (done.returncode, told in done.stderr) == (2, True), done.stderr
        shutil.rmtree(out, ignore_errors=True)
    assert train("--branch", f"{main_run}@4", "--out", out).returncode == 0
    shutil.rmtree(out / "model")
    done = train("--out", out)
    assert done.returncode == 2
    assert "was started with data.branch={" in done.stderr
