"""Ranks that save and load, for test_checkpoints.py: real processes, forked by this one once it has loaded torch.

    python checkpoint_ranks.py URL RANKS ACTION STEP [RANKS ACTION STEP ...]

`save` writes the state of a step; `load` finds that of a step, on whatever layout this number of ranks has; `fail`
expects a load to be refused in one line, which is printed. `kill` lets ranks save step after step, kills one of them
at a random moment, and checks what is found then; STEP is how often.
"""

import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

from troth.train.checkpoints import Checkpoints

FORK = multiprocessing.get_context("fork")
ROWS = Shard(0)
COLUMNS = Shard(1)


def full(name: str, step: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    random_numbers = torch.Generator().manual_seed(step * 1000 + sum(name.encode()))
    return torch.randn(shape, generator=random_numbers).to(dtype)


def state_at(step: int) -> dict[str, torch.Tensor]:
    """What this rank has of the state after a step: sharded unevenly, on one or two dimensions, or only here."""
    world, rank = dist.get_world_size(), dist.get_rank()
    line = init_device_mesh("cpu", (world,))
    square = init_device_mesh("cpu", (2, world // 2) if world % 2 == 0 else (1, world), mesh_dim_names=("dp", "tp"))

    def sharded(name, mesh, placements, *shape, dtype=torch.float32):
        return distribute_tensor(full(name, step, *shape, dtype=dtype), mesh, placements, src_data_rank=None)

    torch.manual_seed(step)
    linear = nn.Linear(8, 12, bias=False)
    if world % 2 == 0:
        parallelize_module(linear, square["tp"], ColwiseParallel())
    fully_shard(linear, mesh=square["dp"] if world % 2 == 0 else line)
    return {
        "step": torch.tensor(step),
        "linear.weight": linear.weight,
        "rows": sharded("rows", line, [ROWS], 7, 3),
        "fewer rows than ranks": sharded("fewer rows than ranks", line, [ROWS], 2, 3),
        "columns": sharded("columns", line, [COLUMNS], 3, 5, dtype=torch.bfloat16),
        "replicated": sharded("replicated", line, [Replicate()], 6),
        "square": sharded("square", square, [ROWS, COLUMNS], 5, 7),
        "rows of rows": sharded("rows of rows", square, [ROWS, ROWS], 11, 2),
        "experts": sharded("experts", square, [Replicate(), ROWS], 5, 4, 2),
    } | {f"layer {n}": full(f"layer {n}", step, 3) for n in range(6) if n % world == rank}


def local(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def same(state: dict[str, torch.Tensor], step: int) -> bool:
    expected = state_at(step)
    return state.keys() == expected.keys() and all(torch.equal(local(state[k]), local(expected[k])) for k in state)


def save(checkpoints: Checkpoints, step: int) -> None:
    state = state_at(step)
    checkpoints.save(step, state)
    for tensor in state.values():
        local(tensor).zero_()  # What is saved is what was there when it was asked for.
    checkpoints.wait()


def load(checkpoints: Checkpoints, step: int) -> None:
    state = state_at(0)
    assert checkpoints.load(state, lambda line: print(line, flush=True)) == step
    assert same(state, step)


def fail(checkpoints: Checkpoints, step: int) -> None:
    try:
        checkpoints.load(state_at(step), lambda line: print(line, flush=True))
    except ValueError as error:
        print(f"rank {dist.get_rank()}: {error}", flush=True)


def save_until_killed(checkpoints: Checkpoints, acknowledged: Path) -> None:
    """Go on from what is there, which must be no older than what was acknowledged, and save step after step."""

    def larger(step):
        return state_at(step) | {"large": full("large", step, 500_000)}

    state, notices = larger(0), []
    first = checkpoints.load(state, notices.append)
    assert all("never finished" in notice for notice in notices), notices
    told = int(acknowledged.read_text(encoding="utf-8"))
    assert first >= told, f"{told} was complete, {first} is what was found"
    expected = larger(first)
    assert first == 0 or all(torch.equal(local(state[name]), local(expected[name])) for name in expected)
    print("found", first, *notices, flush=True)
    for step in range(first + 1, 10**6):
        checkpoints.save(step, larger(step))
        if dist.get_rank() == 0 and step > first + 1:
            partial = acknowledged.with_suffix(".partial")
            partial.write_text(str(step - 1))
            partial.replace(acknowledged)
        acknowledged.with_suffix(".begun").touch()


def as_rank(rank: int, world: int, meeting: str, url: str, action: str, argument: object) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    checkpoints = Checkpoints(url, keep=2)
    globals()[action](checkpoints, argument)
    checkpoints.close()
    dist.destroy_process_group()


def start(world: int, folder: str, url: str, action: str, argument: object) -> list:
    meeting = os.path.join(folder, f"meeting-{time.monotonic_ns()}")
    ranks = [FORK.Process(target=as_rank, args=(r, world, meeting, url, action, argument)) for r in range(world)]
    for rank in ranks:
        rank.start()
    return ranks


def join(ranks: list, seconds: float = 60) -> list[int | None]:
    until = time.monotonic() + seconds
    for rank in ranks:
        rank.join(max(0.0, until - time.monotonic()))
    codes = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()
    return codes


def kill_many_times(world: int, folder: str, url: str, times: int) -> None:
    acknowledged, chance = Path(folder) / "acknowledged", random.Random(0)
    acknowledged.write_text("0")
    begun = acknowledged.with_suffix(".begun")
    for turn in range(times):
        ranks = start(world, folder, url, "save_until_killed", acknowledged)
        until = time.monotonic() + 300
        while not begun.exists():
            assert time.monotonic() < until, "nothing was saved"
            assert all(rank.is_alive() for rank in ranks), "a rank has ended by itself"
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.25))
        chance.choice(ranks).kill()
        told = int(acknowledged.read_text())
        # gloo misses a death now and then: about once in a hundred lives on a busy machine the others wait for it, and
        # it is for the launcher to end them. One step can be with the ranks by then and one be whole but not yet told.
        join(ranks, 5)
        assert int(acknowledged.read_text()) <= told + 2, f"turn {turn}: ranks went on without the one that was killed"
        begun.unlink()
    print(f"{acknowledged.read_text()} checkpoints in {times} lives")


def main() -> None:
    url, *words = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for world, action, step in zip(words[::3], words[1::3], words[2::3], strict=True):
            if action == "kill":
                kill_many_times(int(world), folder, url, int(step))
            else:
                codes = join(start(int(world), folder, url, action, int(step)))
                assert codes == [0] * int(world), f"{world} {action} {step}: {codes}"


if __name__ == "__main__":
    main()
