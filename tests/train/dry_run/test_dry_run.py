"""A step without numbers takes the memory that the real step takes, and counts what goes between ranks."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from troth.cli.main import main
from troth.model.config import ModelConfig
from troth.system import ParallelTable, TrainTable, lay_out
from troth.system.parallel import active_ranks
from troth.train.dry_run.run import blank_batch, dry_run, fresh_processes, run_rank
from troth.train.preference import PreferenceBatch

MODEL = ModelConfig(
    vocab_size=1024, hidden_size=128, intermediate_size=256, moe_intermediate_size=64, num_hidden_layers=4,
    num_dense_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=32, num_experts=4,
    num_experts_per_tok=4, num_shared_experts=1, sliding_window=48, max_position_embeddings=128,
)  # fmt: skip
"""Each token chooses all experts: no rank gets more than its share."""
TRAIN = TrainTable(steps=1, batch_tokens=128 * 16, sequence_length=128, precision="float32")
CASES = {
    2: [
        ({"tp": 2}, {"activation_checkpointing": "full"}),
        ({"cp": 2, "micro_batches": 4}, {"precision": "bf16"}),
        ({"dp_shard": 2}, {"precision": "float8"}),
    ],
    4: [
        ({"tp": 2, "ep": 2, "dp_shard": 2}, {}),
        ({"pp": 2, "micro_batches": 2, "dp_shard": 2}, {"precision": "bf16"}),
    ],
}


def dry(world, parallel, changes, rank, gpu=False):
    train = TRAIN.model_copy(update=changes)
    layout = lay_out(ParallelTable(**parallel), MODEL, train, world)
    return run_rank(MODEL, train, layout, train.precision, rank, gpu)


@pytest.fixture
def fresh():
    with fresh_processes(2) as pool:
        yield pool


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_its_memory_is_what_the_profiler_sees_of_a_real_step(world, fresh, tmp_path):
    job = tmp_path / "job"
    cases = [
        {"model": MODEL.model_dump(), "train": TRAIN.model_copy(update=changes).model_dump(), "parallel": parallel}
        for parallel, changes in CASES[world]
    ]
    job.write_text(json.dumps(cases))
    here = Path(__file__).parent
    command = [sys.executable, here.parent / "forked.py", str(world), here / "worker.py", job]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    last = world - 1
    real = json.loads((tmp_path / f"job.{last}").read_text())
    found = fresh.map(dry, *zip(*((world, *case, last) for case in CASES[world]), strict=True))
    for rank, measured, case in zip(found, real, CASES[world], strict=True):
        assert rank.peak.bytes == pytest.approx(measured, rel=0.03), case
        assert sum(rank.peak.by_kind.values()) == rank.peak.bytes


def test_what_a_rank_holds_and_exchanges(fresh):
    rank = fresh.submit(dry, 4, {"dp_shard": 4, "ep": 2}, {}, 0, True).result()
    whole = sum(p.numel() for p in _decoder().parameters())
    by_kind = rank.peak.by_kind
    assert by_kind["weights"] == pytest.approx(whole, rel=0.02)  # A quarter of four bytes each.
    assert by_kind["optimizer"] == pytest.approx(by_kind["weights"] * 1.26, rel=0.02)  # AdamW has two numbers each.
    assert rank.layers == [0, 1, 2, 3]
    counts = {(c.kind, c.group, c.ranks): c.count for c in rank.collectives}
    # Counts, tokens there and back in each of three layers; the gradient takes the last two ways again.
    assert counts["all-to-all", "expert_ranks", 2] == 3 * (1 + 2 + 2)
    # Four layers and the rest; what of the layers the gradient needs is gathered again.
    assert counts["all-gather", "all", 4] == 5 + 4
    assert counts["reduce-scatter", "all", 4] == 5
    assert counts["all-gather", "expert_shard", 2] == counts["reduce-scatter", "expert_shard", 2] * 2 == 6
    exchanged = next(c for c in rank.collectives if c.kind == "reduce-scatter" and c.group == "all")
    experts = sum(p.numel() for name, p in _decoder().named_parameters() if ".experts." in name)
    assert exchanged.bytes == pytest.approx(4 * (whole - experts), rel=0.02)


def _decoder():
    import torch

    from troth.model.decoder import Decoder

    with torch.device("meta"):
        return Decoder(MODEL)


def test_of_preferences_each_two_rows_are_a_pair():
    batch = blank_batch(TRAIN.model_copy(update={"objective": "preference"}), 6)
    assert isinstance(batch, PreferenceBatch)
    assert (batch.inputs.shape, batch.count) == ((6, 128), 3)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="ep = 3 does not divide num_experts = 4"):
        dry_run(MODEL, TRAIN, ParallelTable(ep=3), 4)
    with pytest.raises(ValueError, match=r"train\.sequence_length=65536: the network has model\.max_position"):
        dry_run(MODEL, TRAIN.model_copy(update={"sequence_length": 2**16}), ParallelTable(), 1)
    with pytest.raises(ValueError, match=r"train\.precision=float64"):
        dry_run(MODEL, TRAIN.model_copy(update={"precision": "float64"}), ParallelTable(), 1)


def test_a_layout_of_given_sizes_leaves_spares():
    table = ParallelTable(pp=2, dp_shard=3)
    assert [active_ranks(table, world) for world in (4, 6, 7)] == [4, 6, 6]
    assert active_ranks(ParallelTable(pp=2), 7) == 7


def test_a_process_that_is_ended_is_told_in_a_line(monkeypatch):
    monkeypatch.setattr("troth.train.dry_run.run.run_rank", _is_ended)
    with pytest.raises(OSError, match="the dry run of 8 GPUs: one of its processes was ended before it had an answer"):
        dry_run(MODEL, TRAIN, ParallelTable(), 8)


def _is_ended(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_replica_groups_have_a_part_of_the_gpus_each():
    report = dry_run(MODEL, TRAIN, ParallelTable(replica_groups=2), 5)
    assert (report.layout.world, report.layout.dp_shard, report.spares) == (2, 2, 1)


def test_the_command_prints_it(capsys, monkeypatch):
    small = ["train.batch_tokens=1024", "train.sequence_length=64", "parallel.dp_shard=2"]
    arguments = ["troth", "train", "--dry-run", "--world", "3", "--json"]
    monkeypatch.setattr(sys, "argv", [*arguments, *(word for change in small for word in ("--set", change))])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["layout"]["dp_shard"], told["spares"], told["fits"]) == (2, 1, True)
    assert told["ranks"][0]["peak"]["by_kind"]["weights"] > 1e6


PEAK = """
import resource, sys
from troth.model.config import ModelConfig
from troth.system import ParallelTable, TrainTable, lay_out
from troth.train.dry_run.run import run_rank

model, train, parallel = (
    kind.model_validate_json(text)
    for kind, text in zip((ModelConfig, TrainTable, ParallelTable), sys.argv[1:], strict=True)
)
run_rank(model, train, lay_out(parallel, model, train, 16_384), train.precision, 0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_more_layers_on_many_ranks_take_no_more_of_this_machine():
    """FSDP has meshes of its own for each weight, 2 MB each here, 47 MB where there are 400,000 ranks."""
    parallel = ParallelTable(dp_replicate=4096, dp_shard=2, tp=2, ep=4)
    train = TRAIN.model_copy(update={"batch_tokens": 128 * 8192})
    peaks = []
    for layers in (2, 18):
        given = (MODEL.model_copy(update={"num_hidden_layers": layers}), train, parallel)
        command = [sys.executable, "-c", PEAK, *(table.model_dump_json() for table in given)]
        peaks.append(int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 100
