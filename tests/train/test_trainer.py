"""A run learns, writes down what it did, and goes on after any end as though it had never stopped."""

import gc
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from troth.model.families.weights import load_weights
from troth.model.tokenizer import Tokenizer
from troth.train.job import Rows
from troth.train.metrics import Metrics, load_figures
from troth.train.progress import Progress

RATES = "tokens_per_second", "seconds_per_step", "seconds", "mfu"


class Killed(Exception):
    """Raised by a report in the middle of a run."""


def stop_at(step):
    def report(metrics):
        if metrics.step == step:
            raise Killed

    return report


def outcome(run):
    """What must not depend on interruptions: the weights' bytes, and all reports but for the rates."""
    reports = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in report.items() if key not in RATES} for report in reports]
    return (run / "model" / "model.safetensors").read_bytes(), kept


@pytest.fixture(scope="module")
def at_once(run_training, recipe, tmp_path_factory):
    """A run of twelve steps that nothing interrupts."""
    run = tmp_path_factory.mktemp("run") / "at-once"
    run_training(run, recipe())
    return run


def test_training_lowers_the_loss(run_training, recipe, tmp_path):
    losses = []
    settings = recipe(steps=60, batch_tokens=512, sequence_length=64, fill_in_middle=0.0, checkpoint_every=99)
    run_training(tmp_path, settings, lambda metrics: losses.append(metrics.loss), weights={"prose": 1.0})
    assert losses[0] == pytest.approx(6, abs=0.3)  # log(400): nothing is known
    assert losses[-1] < 2


def test_activations_computed_again_change_nothing(at_once, run_training, recipe, tmp_path):
    run_training(tmp_path / "whole", recipe(activation_checkpointing="full"))
    assert outcome(tmp_path / "whole") == outcome(at_once)
    with pytest.raises(Killed):  # For want of memory, say.
        run_training(tmp_path / "stopped", recipe(), stop_at(6))
    run_training(tmp_path / "stopped", recipe(activation_checkpointing="full"))
    assert outcome(tmp_path / "stopped") == outcome(at_once)


def test_a_run_says_what_it_is_and_does(at_once, tokenizer, tiny, recipe):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record = json.loads((at_once / "run.json").read_text())
    assert record["settings"]["model"] == tiny.model_dump()
    assert record["settings"]["train"]["steps"] == 12
    assert record["settings"]["data"]["weights"] == {"prose": 0.75, "pages": 0.25}
    assert record["environment"]["torch"] == torch.__version__
    assert record["precision"] == "float32"
    reports = [json.loads(line) for line in (at_once / "metrics.jsonl").read_text().splitlines()]
    assert [report["step"] for report in reports] == list(range(1, 13))
    assert all(0 <= report["load_entropy"] <= 1 and report["tokens_per_second"] > 0 for report in reports)
    board = EventAccumulator(str(at_once / "tensorboard"))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [
        (report["step"], pytest.approx(report["loss"])) for report in reports
    ]
    assert load_weights(at_once / "model").config == tiny
    assert Tokenizer.load(at_once / "model").ranks == tokenizer.ranks
    with safe_open(at_once / "model" / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float32}  # noqa: SIM118


def test_the_seed_decides(at_once, run_training, recipe, tmp_path):
    run_training(tmp_path / "same", recipe())
    run_training(tmp_path / "other", recipe(seed=1))
    assert outcome(tmp_path / "same") == outcome(at_once)
    assert outcome(tmp_path / "other") != outcome(at_once)


@pytest.mark.parametrize("step", [2, 6, 7, 8, 9, 12])
def test_stopped_and_continued_is_as_at_once(at_once, run_training, recipe, tmp_path, step):
    with pytest.raises(Killed):
        run_training(tmp_path, recipe(), stop_at(step))
    resumed = []
    run_training(tmp_path, recipe(), lambda metrics: resumed.append(metrics.step))
    assert resumed[0] == (step - 1) // 3 * 3 + 1  # from the checkpoint before the step that was not finished
    assert outcome(tmp_path) == outcome(at_once)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_stopped_twice_in_bfloat16_is_as_at_once(run_training, recipe, tmp_path, optimizer):
    settings = recipe(precision="bf16", z_loss=1e-4, weight_decay=0.1, optimizer=optimizer)
    run_training(tmp_path / "whole", settings)
    for step in (5, 8):
        with pytest.raises(Killed):
            run_training(tmp_path / "stopped", settings, stop_at(step))
    run_training(tmp_path / "stopped", settings)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


KILLED_AT_8 = """
import json, os, signal, sys
from pathlib import Path
import torch
from troth.model.config import ModelConfig
from troth.model.tokenizer import Tokenizer
from troth.system import TrainTable
from troth.train.job import documents_job
from troth.train.trainer import train

def report(metrics):
    if metrics.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
record, tokenizer, shards, run = sys.argv[1:]
settings = json.loads(Path(record).read_text())["settings"]
job = documents_job(
    ModelConfig(**settings["model"]), TrainTable(**settings["train"], checkpoint_every=3, log_every=1),
    settings["data"]["weights"], Tokenizer.load(Path(tokenizer)), shards,
)
train(job, Path(run), report)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_process_is_continued_as_at_once(at_once, run_training, recipe, shards, tmp_path):
    command = [sys.executable, "-c", KILLED_AT_8, at_once / "run.json", at_once / "model", shards, tmp_path]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "model").exists()
    run_training(tmp_path, recipe())
    assert outcome(tmp_path) == outcome(at_once)


def test_the_model_may_be_written_in_bfloat16(at_once, run_training, recipe, tmp_path):
    run_training(tmp_path, recipe(export_dtype="bfloat16"))
    whole, rounded = (load_weights(run / "model").state_dict() for run in (at_once, tmp_path))
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    for name, tensor in whole.items():
        kept = tensor if name.endswith("expert_bias") else tensor.bfloat16().float()
        assert torch.equal(rounded[name], kept), name
    size, half = ((run / "model" / "model.safetensors").stat().st_size for run in (at_once, tmp_path))
    assert half < 0.6 * size


def test_checkpoints_may_lie_in_object_storage(at_once, run_training, recipe, tmp_path):
    settings = recipe(checkpoints=f"memory://bucket/{tmp_path.name}")
    with pytest.raises(Killed):
        run_training(tmp_path, settings, stop_at(8))
    assert not (tmp_path / "checkpoints").exists()
    with pytest.raises(ValueError, match=r"was started with train\.checkpoints='memory://bucket/"):
        run_training(tmp_path, recipe())
    seen = []
    run_training(tmp_path, settings, seen.append)
    assert seen[0].step == 7
    assert outcome(tmp_path) == outcome(at_once)


def test_a_checkpoint_that_was_not_finished_is_ignored(at_once, run_training, recipe, tmp_path):
    with pytest.raises(Killed):
        run_training(tmp_path, recipe(), stop_at(8))
    partial = tmp_path / "checkpoints" / "step-000000009.partial"
    partial.mkdir()
    (partial / "__0_0.distcp").write_bytes(b"half of it")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    run_training(tmp_path, recipe())
    assert outcome(tmp_path) == outcome(at_once)


def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(at_once, run_training, recipe, tmp_path):
    with pytest.raises(Killed):
        run_training(tmp_path, recipe(), stop_at(8))
    newest = tmp_path / "checkpoints" / "step-000000006"
    for file in newest.glob("*.distcp"):
        file.write_bytes(file.read_bytes()[:40])
    said = []
    run_training(tmp_path, recipe(), say=said.append)
    assert len(said) == 1
    assert str(newest) in said[0]
    assert outcome(tmp_path) == outcome(at_once)


@pytest.mark.parametrize(("keep", "kept"), [(1, [12]), (2, [9, 12]), (9, [3, 6, 9, 12])])
def test_the_newest_checkpoints_are_kept(run_training, recipe, tmp_path, keep, kept):
    run_training(tmp_path, recipe(keep_checkpoints=keep))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [f"step-{step:09d}" for step in kept]


def test_searches_for_garbage_leave_out_what_a_run_begins_with(run_training, recipe, tmp_path):
    left_out = []
    run_training(tmp_path, recipe(steps=2), lambda _: left_out.append(gc.get_freeze_count()))
    assert min(left_out) > 100_000
    assert gc.get_freeze_count() == 0


def test_a_finished_run_is_not_done_again(at_once, run_training, recipe):
    before = outcome(at_once)
    assert run_training(at_once, recipe(), stop_at(1)) == at_once / "model"
    assert outcome(at_once) == before
    assert run_training(at_once, recipe(keep_checkpoints=5, log_every=3, checkpoint_every=2)) == at_once / "model"


@pytest.mark.parametrize(("key", "value"), [("steps", 13), ("muon_lr", 0.5), ("seed", 1), ("fill_in_middle", 0.0)])
def test_another_recipe_in_the_same_folder_is_named(at_once, run_training, recipe, key, value):
    with pytest.raises(ValueError, match=re.escape(f"train.{key}={getattr(recipe(), key)!r}, not {value!r}")):
        run_training(at_once, recipe(**{key: value}))


def test_another_network_or_data_in_the_same_folder_is_named(at_once, run_training, recipe, tiny):
    with pytest.raises(ValueError, match=r"model\.num_experts_per_tok=2, not 1"):
        run_training(at_once, recipe(), model=tiny.model_copy(update={"num_experts_per_tok": 1}))
    with pytest.raises(ValueError, match=r"data\.weights"):
        run_training(at_once, recipe(), weights={"prose": 1.0})


def test_a_loss_that_is_no_number_ends_the_run(run_training, recipe, tmp_path):
    said = []
    with pytest.raises(ValueError, match=r"step \d+: loss .* not both finite.*lower train\.muon_lr or train\.adam_lr"):
        run_training(tmp_path, recipe(adam_lr=1e30, muon_lr=1e30, steps=20), say=said.append)
    assert len(said) == 10
    assert all("leaves the weights as they are" in told for told in said)
    assert not (tmp_path / "model").exists()


def test_a_run_that_a_spike_ended_goes_on_otherwise(run_training, recipe, tmp_path):
    broken = {"adam_lr": 1e30, "muon_lr": 1e30, "steps": 20, "checkpoint_every": 1}
    with pytest.raises(ValueError, match=r"not both finite; go on with train\.on_spike=rewind or skip, or lower"):
        run_training(tmp_path, recipe(on_spike="stop", **broken))
    said = []
    with pytest.raises(ValueError, match=r"after 10 times of skip; lower train\.muon_lr"):
        run_training(tmp_path, recipe(on_spike="skip", **broken), say=said.append)
    assert len(said) == 10


class Spiked(Rows):
    """Rows among which those of one step are not what a model of them expects."""

    def __init__(self, rows, first, last):
        self.of, self.first, self.last = rows, first, last

    def rows(self, first, last):
        batch = self.of.rows(first, last)
        spiked = first < self.last and last > self.first
        return replace(batch, targets=np.full_like(batch.targets, 7)) if spiked else batch


@pytest.mark.parametrize("action", ["skip", "rewind"])
def test_a_spike_is_left_out(run_training, recipe, tmp_path, action):
    """The weights end where they would have ended without the update, or without the data."""
    settings = recipe(
        steps=60, batch_tokens=512, sequence_length=64, fill_in_middle=0.0, on_spike=action, checkpoint_every=20
    )
    said = []
    run_training(
        tmp_path, settings, say=said.append, weights={"prose": 1.0}, change=lambda rows: Spiked(rows, 45 * 8, 46 * 8)
    )
    assert len(said) == 1
    assert said[0].startswith("step 46: ")
    reports = outcome(tmp_path)[1]
    assert [report["step"] for report in reports] == list(range(1, 61))
    if action == "skip":
        assert reports[45]["loss"] > 1.5 * reports[44]["loss"]
    else:
        # It went back to step 40 and read the batch after the bad one in its place.
        assert max(report["loss"] for report in reports[30:]) < 1.2 * reports[30]["loss"]


def test_load_figures():
    even, one = torch.full((4,), 0.25), torch.tensor([1.0, 0, 0, 0])
    assert load_figures([even, even]) == (pytest.approx(1), 0)
    assert load_figures([even, one]) == (pytest.approx(0.5), 3)
    assert load_figures([]) == (1.0, 0)


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(capsys):
    with Progress("train") as report:
        for step in range(1, 41):
            report(Metrics(step, 40, 2.5, 1.0, 1.0, 12345.6, 0.97, 1 if step > 20 else 0, 2.0))
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("train  step 1/40  loss 2.500  12,346 tokens/s  load 0.97  1:18 left")
    assert "1 dead" in lines[-1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"qk_norm": "none"}, "qk_norm='none': model_type afmoe has 'head'"),
        ({"max_position_embeddings": 16}, "train.sequence_length=32: the network has model.max_position_embeddings=16"),
    ],
)
def test_a_shape_that_does_not_serve_is_refused_before_anything_is_trained(
    tmp_path, recipe, run_training, tiny, changes, told
):
    run = tmp_path / "run"
    with pytest.raises(ValueError, match=re.escape(told)):
        run_training(run, recipe(), model=tiny.model_copy(update=changes))
    assert not run.exists()
