"""A run over ranks goes on after any end: to the bit over the same layout, and as one process over any other."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from troth.model.families.weights import load_weights
from troth.system.lock import held
from troth.train.parallel import ranks
from troth.train.parallel.ranks import first_host

from .conftest import case, deviation, reports

FORKED = Path(__file__).parents[1] / "forked.py"


@pytest.mark.slow
def test_four_ranks_then_two_then_three_are_as_one_process(
    run_training, over_ranks, small, proof, held_out, tmp_path
):  # fmt: skip
    settings = proof(checkpoint_every=3)
    run_training(tmp_path / "alone", settings, model=small, held_out=held_out)
    run = tmp_path / "run"
    # Eight experts and hidden sizes of 32 do not divide by three, and need not.
    over_ranks(4, [case(run, small, settings, {"dp_shard": 2, "tp": 2, "ep": 2}, killed_at=8)], fails=True)
    over_ranks(2, [case(run, small, settings, {"pp": 2, "micro_batches": 2}, killed_at=14)], fails=True)
    over_ranks(3, [case(run, small, settings, {"dp_shard": 3})])
    assert deviation(run, tmp_path / "alone") < 1e-9


def test_stopped_and_continued_over_ranks_is_the_same_to_the_bit(over_ranks, small, proof, tmp_path):
    settings = proof(checkpoint_every=3, steps=10, precision="float32")
    layout = {"dp_replicate": 1, "ep": 2}
    whole = case(tmp_path / "whole", small, settings, layout)
    elsewhere = settings.model_copy(update={"checkpoints": f"file://{tmp_path}/bucket"})
    over_ranks(2, [whole, case(tmp_path / "stopped", small, elsewhere, layout, killed_at=8)], fails=True)
    assert (tmp_path / "whole" / "model").exists()
    assert not (tmp_path / "stopped" / "model").exists()
    over_ranks(2, [case(tmp_path / "stopped", small, elsewhere, layout)])
    assert not (tmp_path / "stopped" / "checkpoints").exists()
    assert reports(tmp_path / "stopped") == reports(tmp_path / "whole")
    ours, theirs = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("stopped", "whole"))
    assert ours == theirs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "mtp_weight"),
    [
        ({"pp": 2, "micro_batches": 2}, 0.0), ({"dp_shard": 2}, 0.3), ({"tp": 2, "ep": 2}, 0.3),
        ({"pp": 2, "micro_batches": 2, "schedule": "ZBVZeroBubble", "stages_per_rank": 2}, 0.3),
    ],
)
def test_a_run_from_a_folder_starts_with_its_weights(
    run_training, over_ranks, small, proof, held_out, tmp_path, layout, mtp_weight
):
    """And with those of the modules of multi-token prediction beside them."""
    settings = proof(steps=3, mtp_weight=mtp_weight)
    first = run_training(tmp_path / "first", proof(steps=5, mtp_weight=mtp_weight), model=small)
    alone = run_training(tmp_path / "alone", settings, model=small, start=first, held_out=held_out)
    over_ranks(2, [case(tmp_path / "run", small, settings, layout, start=str(first))])
    if mtp_weight:
        found, expected = ([report["mtp_loss"] for report in reports(tmp_path / run)] for run in ("run", "alone"))
        assert found == pytest.approx(expected, abs=1e-9)
        assert found[0] < reports(tmp_path / "first")[0]["mtp_loss"]
    assert deviation(tmp_path / "run", tmp_path / "alone") < 1e-9
    assert reports(alone.parent)[0]["loss"] < reports(tmp_path / "first")[0]["loss"]
    assert load_weights(tmp_path / "run" / "model").config == small


def test_a_rank_whose_launcher_is_gone_does_not_stay(monkeypatch):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    place = {"RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    for name, value in (place | {"TORCHELASTIC_USE_AGENT_STORE": True}).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(ranks, "_STORE_ANSWERS", 1.0)
    with pytest.raises(ConnectionError, match="rank 1 finds no torchrun at localhost"), ranks.joined("cpu"):
        pass


HOLDS = """
import os, sys, time
from pathlib import Path
from troth.system.lock import held
from troth.train.parallel.ranks import joined

with joined("cpu") as ranks, held(Path(sys.argv[1]) / str(ranks.rank), "training"):
    ranks.wait()
    os.write(1, b"held\\n")
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_ranks_end_with_a_torchrun_that_is_killed(tmp_path):
    (tmp_path / "rank.py").write_text(HOLDS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    started = [*command, tmp_path / "rank.py", tmp_path]
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as torchrun:
        assert [torchrun.stdout.readline() for _ in range(2)] == ["held\n"] * 2
        torchrun.kill()
    for rank in range(2):
        with held(tmp_path / str(rank), "training", patience=10):
            pass


JOB = {"SLURM_JOB_ID": "75", "SLURM_NTASKS": "4", "SLURM_JOB_NODELIST": "absent,localhost"}
MEETS = """
from troth.train.parallel.ranks import joined

with joined("cpu") as ranks:
    ranks.wait()
    print(ranks.rank, ranks.world)
"""


def test_ranks_of_a_slurm_step_meet_on_its_first_machine():
    step = {"SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost"}
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", MEETS], stdout=subprocess.PIPE, text=True,
            env=os.environ | JOB | step | {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
        )
        for task in range(2)
    ]  # fmt: skip
    assert [task.communicate(timeout=400)[0] for task in tasks] == ["0 2\n", "1 2\n"]


NOT_SHARED = """
import sys
from pathlib import Path
from troth.train.parallel.ranks import joined

with joined("cpu") as ranks:
    file = Path(sys.argv[1]) / str(ranks.rank // 2) / "run.json"
    ranks.once(lambda: file.touch())
    ranks.all_see(file.parents[1] / "0" / "run.json")
    ranks.all_see(file, patience=0.1)
"""


def test_a_folder_that_not_all_ranks_see_is_refused_before_anything_is_learned(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "job.py").write_text(NOT_SHARED)
    command = [sys.executable, FORKED, "3", tmp_path / "job.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 1
    assert f"ValueError: {tmp_path / '0'}: rank 2 on {socket.gethostname()} does not see it; ranks on" in done.stderr
    assert done.stderr.count("ValueError: ") == 1


FAILS = """
import sys
from troth.cli import main

def fail():
    from troth.train.parallel.ranks import joined

    with joined("cpu") as ranks:
        if sys.argv[1] == "first":
            ranks.once(lambda: open("/absent/file"))
        if sys.argv[1] == "all" or ranks.rank == 2:
            raise ValueError("no checkpoint is whole")
        ranks.wait()

main.app = fail
main.main()
"""


@pytest.mark.parametrize(
    ("whose", "told"),
    [
        ("all", "troth: no checkpoint is whole"),
        ("first", "troth: [Errno 2] No such file or directory: '/absent/file'"),
        ("third", "troth: rank 2: no checkpoint is whole"),
    ],
)
def test_what_ends_all_ranks_is_told_once_and_what_ends_another_names_it(tmp_path, monkeypatch, whose, told):
    (tmp_path / "job.py").write_text(FAILS)
    command = [sys.executable, FORKED, "3", tmp_path / "job.py", whose]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "lost its connection" not in line] == [told]


OWN_FOLDERS = """
import os, sys
from troth.cli.main import main

shards, words, home = sys.argv[1:]
sets = ["fill_in_middle=0", "steps=1", f"checkpoints=file://{home}/bucket"]
sets = [f"--set=train.{change}" for change in sets]
sys.argv = ["troth", "train", shards, "--out", f"{home}/{os.environ['RANK']}", "--tokenizer", words, *sets]
main()
"""


def test_a_finished_run_ends_where_each_machine_has_a_folder_of_its_own(shards, tokenizer, tmp_path):
    """Only the first then has the model."""
    (tmp_path / "0" / "model").mkdir(parents=True)
    (tmp_path / "0" / "model" / "config.json").write_text('{"dtype": "float32"}')
    tokenizer.save(tmp_path)
    (tmp_path / "job.py").write_text(OWN_FOLDERS)
    command = [sys.executable, FORKED, "2", tmp_path / "job.py", shards, tmp_path, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.stdout.endswith(f"Model: {tmp_path / '0' / 'model'}\n"), done.stderr


LEFT_ALONE = """
import os, sys
import torch
import torch.distributed as dist
from torch.distributed.pipelining import PipelineStage
from troth.train.checkpoints import Checkpoints
from troth.train.parallel.ranks import joined


class Meets(torch.nn.Module):
    def forward(self, x):
        dist.barrier()
        return x


with joined("cpu") as ranks:
    checkpoints, x = Checkpoints(sys.argv[1], 1), torch.zeros(1)
    here = torch.device("cpu")
    meets = PipelineStage(Meets(), 0, 3, here, input_args=(x,), output_args=(x,), group=dist.group.WORLD)
    ranks.wait()
    if ranks.rank == 2:
        os._exit(1)
    if ranks.rank == 1:
        meets.forward_one_chunk(0, (x,))
    checkpoints.save(1, {"x": x})
    checkpoints.wait()
"""


def test_a_rank_that_is_lost_in_a_checkpoint_or_a_pipeline_is_named_as_the_cause(tmp_path):
    """torch and the writer of checkpoints put errors of their own around the network's."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LEFT_ALONE, tmp_path], stderr=subprocess.PIPE, text=True,
            env=os.environ | place | {"RANK": str(rank)},
        )
        for rank in range(3)
    ]  # fmt: skip
    said = [process.communicate(timeout=400)[1].splitlines() for process in started]
    for rank in range(2):
        assert f"ConnectionError: rank {rank} lost its connection with others (" in said[rank][-1]
        assert "gloo/" not in said[rank][-1]


@pytest.mark.slow
def test_workers_of_ray_train_are_ranks(tmp_path):
    """They have a process group, which stays theirs."""
    ray, torch_trainer = pytest.importorskip("ray"), pytest.importorskip("ray.train.torch")
    told = tmp_path / "told"
    told.mkdir()

    def worker():
        import torch.distributed as dist

        from troth.train.parallel.ranks import joined

        for _ in range(2):
            with joined("cpu") as ranks:
                ranks.wait()
                (told / str(ranks.rank)).write_text(str(ranks.world))
        dist.barrier()

    ray.init(num_cpus=2, include_dashboard=False)
    try:
        scaling = ray.train.ScalingConfig(num_workers=2)
        run = ray.train.RunConfig(storage_path=str(tmp_path / "ray"))
        torch_trainer.TorchTrainer(worker, scaling_config=scaling, run_config=run).fit()
    finally:
        ray.shutdown()
    assert [(told / rank).read_text() for rank in ("0", "1")] == ["2", "2"]


def test_a_batch_script_of_slurm_and_a_shell_of_salloc_are_alone(monkeypatch):
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    for more in ({}, {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}):
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        with ranks.joined("cpu") as alone:
            assert (alone.rank, alone.world) == (0, 1)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node[003-005,9],login1", "node003"), ("a,b", "a"), ("one", "one"), ("gpu-[01-04]-x,foo", "gpu-01-x")],
)
def test_slurms_list_of_hosts(nodes, first):
    assert first_host(nodes) == first
