"""Over ranks, the balance loss, multi-token prediction and growing batches are as in a single process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FORKED, WORKER = (Path(__file__).parent / f"{name}.py" for name in ("forked", "recipe_ranks"))
LOSSES = {"sequence_balance": 0.1, "mtp_weight": 0.3, "mtp_depth": 2}
AGAIN = LOSSES | {"activation_checkpointing": "full"}
GROWING = {"sequence_balance": 0.1, "batch_ramp": 0.7, "batch_ramp_start": 64}
PIPELINE = {"pp": 2, "micro_batches": 8}
TIED = {"tie_word_embeddings": True}


def check(world, cases):
    job = json.dumps(
        [{"train": train, "parallel": parallel, "model": dict(*model)} for train, parallel, *model in cases]
    )
    command = [sys.executable, FORKED, str(world), WORKER, job]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-5000:]


def test_each_dimension_alone_is_as_one_process():
    cases = [(LOSSES, {name: 2}) for name in ("dp_shard", "cp", "tp", "ep")]
    cases += [(AGAIN, {"cp": 2, "micro_batches": 2}), (GROWING, {"dp_shard": 2}), (GROWING, PIPELINE)]
    cases += [(LOSSES, PIPELINE), (LOSSES, PIPELINE, TIED), (GROWING, PIPELINE, TIED), ({}, {"dp_shard": 2}, TIED)]
    check(2, cases)


@pytest.mark.slow
def test_dimensions_together_are_as_one_process():
    layouts = [
        {"tp": 2, "ep": 2}, {"dp_shard": 2, "cp": 2}, {"cp": 2, "tp": 2, "ep": 4}, {"dp_replicate": 2, "ep": 2},
        {"tp": 2, "ep": 2, "etp": 2},
    ]  # fmt: skip
    interleaved = {"pp": 2, "micro_batches": 4, "schedule": "Interleaved1F1B", "stages_per_rank": 2, "dp_shard": 2}
    pipelines = [(GROWING, PIPELINE | {"cp": 2}), (GROWING, PIPELINE | {"tp": 2})]
    pipelines += [(GROWING | {"batch_ramp_start": 128}, interleaved)]
    for losses in (LOSSES, AGAIN):
        pipelines += [(losses, interleaved, model) for model in ({}, TIED)]
    pipelines += [(LOSSES, {"pp": 2, "micro_batches": 2, name: 2}, TIED) for name in ("dp_replicate", "cp", "tp")]
    pipelines += [(LOSSES, {"pp": 4, "micro_batches": 4}, TIED)]
    check(4, [*((LOSSES, layout) for layout in layouts), *pipelines])


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["InterleavedZeroBubble", "ZBVZeroBubble"])
def test_zero_bubbles_are_as_one_process(schedule):
    layout = PIPELINE | {"schedule": schedule, "stages_per_rank": 2}
    check(2, [(GROWING, layout), (GROWING, layout, TIED), (LOSSES, layout), (LOSSES, layout, TIED)])
