"""Who this process is among those of a run: alone, or started by torchrun, Ray or Slurm, all with the same command."""

import ctypes
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.constants import default_pg_timeout

_PORTS = range(15000, 25000)
"""Of which each of Slurm's steps takes one, since jobs may share a machine: below those that connections are given."""
_STORE_ANSWERS = 60.0
"""Seconds. torchrun's store is there before its ranks are: one that does not answer is gone, and so should they be."""

_TOLD, _FIRST_TELLS = "told", 10.0
"""What the first rank's error is called in the store, and how many seconds others wait for it before they tell one."""

_PR_SET_PDEATHSIG = 1

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `world`, and computes on `device`."""

    rank: int
    world: int
    device: str

    @property
    def first(self) -> bool:
        """Whether it is the one that writes what is written once."""
        return self.rank == 0

    def wait(self) -> None:
        """For all others to come here."""
        if self.world > 1:
            dist.barrier()

    def once(self, do: Callable[[], T]) -> T:
        """What `do` returns on the first rank, which alone runs it; after a ValueError or an OSError the others just
        end."""
        failed: Exception | None = None
        answer: list[Any] = [None, False]
        if self.first:
            try:
                answer[0] = do()
            except (ValueError, OSError) as error:
                failed, answer = error, [None, True]
        if self.world > 1:
            dist.broadcast_object_list(answer, src=0)
        if answer[1]:
            raise failed or SystemExit(2)
        return cast(T, answer[0])

    def all_see(self, file: Path, patience: float = 30.0) -> None:
        """Check that `file`, which the first rank has written, is there for all; shared file systems may need some of
        `patience` seconds for it. Collective. Raises ValueError naming the first rank that does not see it."""
        if self.world == 1:
            return
        end = time.monotonic() + patience
        while not (seen := file.exists()) and time.monotonic() < end:
            time.sleep(0.5)
        told: list[str] = [""] * self.world
        dist.all_gather_object(told, "" if seen else f"rank {self.rank} on {socket.gethostname()}")
        if blind := next(filter(None, told), None):
            if not self.first:
                raise SystemExit(2)
            raise ValueError(
                f"{file.parent}: {blind} does not see it; ranks on several machines need a folder that they share, or "
                "checkpoints at a URL (train.checkpoints)"
            )


ALONE = Ranks(0, 1, "cpu")


@contextmanager
def joined(device: str | None = None) -> Iterator[Ranks]:
    """Join the process group that the environment speaks of, and leave it at the end; one that is there already, as in
    the workers of Ray's TorchTrainer, stays.

    torchrun sets RANK, WORLD_SIZE and MASTER_ADDR; under Slurm's srun these follow from its own variables. The device
    is a GPU where there is one, unless given. Raises ConnectionError where another rank or the store of the process
    group can be reached no more.
    """
    _from_slurm()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if world == 1 and "RANK" not in os.environ:
        yield Ranks(0, 1, device)
        return
    _end_with_torchrun()
    if device == "cuda":
        # Slurm may show each task its own GPU only (--gpus-per-task).
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    else:
        # Its warning that gloo gathers where others exchange is of no use to anyone.
        logging.getLogger("torch.distributed.tensor._collective_utils").setLevel(logging.ERROR)
    try:
        with _in_group(device) as ranks:
            yield ranks
    except (RuntimeError, OSError) as error:
        if (lost := _of_network(error)) is None:
            raise
        raise ConnectionError(
            f"rank {os.environ['RANK']} lost its connection with others ({lost}): look for a "
            "rank that ended before; the same command goes on from the last checkpoint"
        ) from error


def _end_with_torchrun() -> None:
    """Have the kernel (Linux) end this process when the torchrun that started it ends in whatever way. One that gets
    SIGKILL ends no rank, and ranks that went on would keep the run's folder from those that a new torchrun starts."""
    if sys.platform == "linux" and "TORCHELASTIC_RUN_ID" in os.environ:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _in_group(device: str) -> Iterator[Ranks]:
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
        return
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        _find_store(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    store, rank, world = next(dist.rendezvous("env://", timeout=default_pg_timeout))
    # A run that torchrun starts anew may find the store of the last attempt, with addresses of ranks that are gone.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"attempt {attempt}", store)
    dist.init_process_group("nccl" if device == "cuda" else "gloo", store=store, rank=rank, world_size=world)
    try:
        with _one_voice(store, dist.get_rank()):
            yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


@contextmanager
def _one_voice(store: dist.Store, rank: int) -> Iterator[None]:
    """A ValueError or OSError that the first rank has too is left to it to tell, and the others just end; one that is
    of another rank alone names it."""
    try:
        yield
    except (ValueError, OSError) as error:
        if rank == 0:
            with suppress(RuntimeError):  # The others are gone, and the store with them.
                store.set(_TOLD, str(error))
            raise
        if _of_network(error) is not None:
            raise
        if _told_by_first(store) == str(error):
            raise SystemExit(2) from error
        kind = ValueError if isinstance(error, ValueError) else OSError
        raise kind(f"rank {rank}: {error}") from error


def _told_by_first(store: dist.Store) -> str | None:
    """The first rank's error; None where it says nothing for a while, since it has none and waits for this rank."""
    end = time.monotonic() + _FIRST_TELLS
    with suppress(RuntimeError):
        while time.monotonic() < end:
            if store.check([_TOLD]):
                told: str = store.get(_TOLD).decode()
                return told
            time.sleep(0.1)
    return None


def _find_store(host: str, port: int) -> None:
    """Raises ConnectionError after a minute without a store. torch's own search lasts half an hour, and begins anew."""
    last = time.monotonic() + _STORE_ANSWERS
    while True:
        try:
            socket.create_connection((host, port), timeout=_STORE_ANSWERS).close()
        except OSError as error:
            if time.monotonic() > last:
                raise ConnectionError(
                    f"rank {os.environ['RANK']} finds no torchrun at {host}:{port} ({error}): it ended before its "
                    "ranks met; the same command goes on from the last checkpoint"
                ) from error
            time.sleep(1)
        else:
            return


def _of_network(error: BaseException | None) -> str | None:
    """What the network said, where that is what an error, or what it arose from, is about: torch's pipelines and the
    writing of checkpoints put errors of their own around it. gloo has none, but says where in its sources it arose."""
    said = None
    while error is not None:
        if isinstance(error, dist.DistError) or "gloo/" in str(error):
            said = re.sub(r"^\[\S*gloo/\S*\] |\. This is typically.*", "", str(error).strip().splitlines()[0])
        error = error.__cause__
    return said


def _from_slurm() -> None:
    """A step's variables, which srun sets: those of the whole job stand in a batch script too, which is no rank."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if "RANK" in os.environ or tasks == "1":
        return
    job, step = int(os.environ["SLURM_JOB_ID"]), int(os.environ["SLURM_STEP_ID"])
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["WORLD_SIZE"] = tasks
    os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
    os.environ.setdefault("MASTER_ADDR", first_host(os.environ["SLURM_STEP_NODELIST"]))
    os.environ.setdefault("MASTER_PORT", str(_PORTS[(16 * job + step) % len(_PORTS)]))


def first_host(nodes: str) -> str:
    """The first of Slurm's short form of many hosts: node[003-005,9],login1 -> node003."""
    match = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,]*))?", nodes)
    assert match is not None, nodes
    return match[1] + (match[2] or "") + (match[3] or "")
