"""Runs a script on several ranks as torchrun does, but forks them from one process that has loaded what they need:
most of a short test over ranks is else the loading of torch, by each rank and by torchrun.

    python forked.py RANKS SCRIPT [ARGUMENT ...] [-- ARGUMENT ...]

After each -- the ranks begin anew, with other arguments.
"""

import ctypes
import itertools
import multiprocessing
import os
import runpy
import signal
import sys
import time
from multiprocessing.synchronize import Event

import torch.distributed as dist

import troth.train.trainer  # noqa: F401 (loaded here, once for all ranks)

PR_SET_PDEATHSIG = 1


def as_rank(rank: int, told: dict[str, object], script: str, arguments: list[str], forked: Event) -> None:
    if sys.platform == "linux":
        # A test that has waited long enough kills this program; what computes on would slow those after it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    forked.wait()
    os.environ.update({name: str(value) for name, value in (told | {"RANK": rank, "LOCAL_RANK": rank}).items()})
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def main(world: int, script: str, arguments: list[str]) -> int:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
    told |= {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    fork = multiprocessing.get_context("fork")
    # While the store's thread looks up who connects it holds a lock of the C library, which a fork would hold for ever.
    forked = fork.Event()
    ranks = [fork.Process(target=as_rank, args=(rank, told, script, arguments, forked)) for rank in range(world)]
    for rank in ranks:
        rank.start()
    forked.set()
    while any(rank.is_alive() for rank in ranks) and not any(rank.exitcode for rank in ranks):
        time.sleep(0.05)
    for rank in ranks:
        rank.kill()
    return int(any(rank.exitcode for rank in ranks))


if __name__ == "__main__":
    ranks, script, *words = sys.argv[1:]
    starts = [list(group) for word, group in itertools.groupby(words, lambda word: word == "--") if not word] or [[]]
    sys.exit(int(any(main(int(ranks), script, arguments) for arguments in starts)))
