"""Replica groups learn as one, and outlive each other: real torchrun worlds that find each other by a lighthouse."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from troth.model.chat_template import ChatTemplate
from troth.system import ParallelTable, lay_out
from troth.train.examples import tokenise_preferences
from troth.train.parallel.replica_groups import group_number
from troth.train.trainer import train
from troth.train.tuning import preferences_job

from .conftest import WORKER, case, deviation, reports


@pytest.fixture
def in_groups(tokenizer, shards, held_out, tmp_path):
    """`in_groups(ranks, cases, together)` trains each case in a replica group of so many ranks, all at once; they
    begin when `together` of them are there."""
    coordination = pytest.importorskip("torchft.coordination")

    def run(ranks, cases, together):
        tokenizer.save(tmp_path)
        told = {"tokenizer": str(tmp_path), "shards": str(shards), "held_out": str(held_out)}
        lighthouse = coordination.LighthouseServer(
            bind="[::]:0", min_replicas=together, join_timeout_ms=1000, heartbeat_timeout_ms=2000
        )
        groups = []
        for number, each in enumerate(cases):
            job = tmp_path / f"job-{number}.json"
            job.write_text(json.dumps(told | {"weights": {"prose": 0.75, "pages": 0.25}, "cases": [each]}))
            command = [
                sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}",
                "--max-restarts=1", WORKER, job,
            ]  # fmt: skip
            variables = os.environ | {"REPLICA_GROUP_ID": str(number), "TORCHFT_LIGHTHOUSE": lighthouse.address()}
            groups.append(subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True))
        for group in groups:
            _, errors = group.communicate(timeout=300)
            assert group.returncode == 0, errors[-5000:]
        lighthouse.shutdown()

    return run


@pytest.mark.slow
def test_two_groups_are_as_one_process(in_groups, run_training, small, proof, held_out, tmp_path):
    settings = proof()
    cases = [case(tmp_path / str(n), small, settings, {"replica_groups": 2}) for n in range(2)]
    in_groups(1, cases, together=2)
    run_training(tmp_path / "alone", settings, model=small, held_out=held_out)
    assert deviation(tmp_path / "0", tmp_path / "alone") < 1e-9
    assert reports(tmp_path / "0") == reports(tmp_path / "1")


@pytest.mark.slow
def test_preferences_of_two_groups_are_as_one_process(in_groups, run_training, small, proof, tokenizer, tmp_path):
    """Each group asks the model that is tuned about all pairs, for itself."""
    base = run_training(tmp_path / "base", proof(steps=2), model=small)
    template = ChatTemplate.for_tuning(base, tokenizer)
    pairs = [{"prompt": f"{i} is", "chosen": f" {i}." + " Yes." * (i % 3), "rejected": " 7?"} for i in range(24)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    examples = tmp_path / "pairs"
    tokenise_preferences([str(tmp_path / "pairs.jsonl")], template, tokenizer, examples)
    settings = proof(objective="preference", steps=4, adam_lr=0.01)
    train(preferences_job(small, settings, tokenizer, examples, base, template, examples), tmp_path / "alone", print)
    more = {"start": str(base), "examples": str(examples)}
    cases = [case(tmp_path / str(n), small, settings, {"replica_groups": 2}, **more) for n in range(2)]
    in_groups(1, cases, together=2)
    assert deviation(tmp_path / "0", tmp_path / "alone") < 1e-9
    assert reports(tmp_path / "0") == reports(tmp_path / "1")


@pytest.mark.slow
def test_a_group_goes_on_while_the_other_is_away_and_heals_it(in_groups, small, proof, tmp_path):
    settings = proof(steps=150, checkpoint_every=3, precision="float32")
    layout = {"replica_groups": 2, "dp_shard": 2, "ep": 2}
    lost, stays = tmp_path / "lost", tmp_path / "stays"
    in_groups(2, [
        case(lost, small, settings, layout, killed_once=str(tmp_path / "killed"), pause=0.1),
        case(stays, small, settings, layout, pause=0.1),
    ], together=1)  # fmt: skip
    first, again = (entry["from_step"] for entry in history(lost))
    assert first == 0 < again
    assert [entry["from_step"] for entry in history(stays)] == [0]
    ours, theirs = ({report["step"]: report for report in reports(run)} for run in (lost, stays))
    away = set(range(again + 1, settings.steps + 1)) - ours.keys()
    assert away, "steps were taken while the group was away"
    assert away <= theirs.keys()
    assert all(ours[step] == theirs[step] for step in ours.keys() & theirs.keys())
    models = [(run / "model" / "model.safetensors").read_bytes() for run in (lost, stays)]
    assert models[0] == models[1]


def test_a_group_must_know_which_it_is_and_where_the_lighthouse_is(monkeypatch):
    assert group_number(1) == 0
    monkeypatch.setenv("REPLICA_GROUP_ID", "2")
    with pytest.raises(ValueError, match="REPLICA_GROUP_ID='2'; it must be 0 to 1"):
        group_number(2)
    monkeypatch.setenv("REPLICA_GROUP_ID", "1")
    with pytest.raises(ValueError, match="start torchft_lighthouse"):
        group_number(2)


def test_rows_are_parted_among_groups_too(small, proof):
    assert lay_out(ParallelTable(replica_groups=3), small, proof(), 4).rows_ranks == 12
    with pytest.raises(ValueError, match=r"replica_groups \* dp_replicate \* dp_shard \* micro_batches = 20"):
        lay_out(ParallelTable(replica_groups=5), small, proof(), 4)
    with pytest.raises(ValueError, match="on_spike=rewind would part the groups"):
        lay_out(ParallelTable(replica_groups=2), small, proof(on_spike="rewind"), 2)


def history(run: Path):
    return json.loads((run / "run.json").read_text())["history"]
