"""Real processes that make one process group."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch.distributed as dist


@contextmanager
def running(code, ranks, *arguments, machines=None, store_apart=True):
    """Start `ranks` processes that run `code`; all are gone at the end.

    The store that they meet at is here, unless it is to be with rank 0. With `machines` they are told, as torchrun
    does, that they sit on so many.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "WORLD_SIZE": ranks}
    shared["TORCHELASTIC_USE_AGENT_STORE"] = store_apart
    if not store_apart:
        del store
    processes = []
    for rank in range(ranks):
        own = shared | {"RANK": rank}
        if machines:
            local = ranks // machines
            own |= {"GROUP_RANK": rank // local, "GROUP_WORLD_SIZE": machines}
            own |= {"LOCAL_RANK": rank % local, "LOCAL_WORLD_SIZE": local}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        environment = os.environ | {name: str(value) for name, value in own.items()}
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True))
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def start_ranks():
    return running


@pytest.fixture(scope="session")
def run_ranks():
    """`run_ranks(code, 3)` is what each of three ranks printed."""

    def run(code, ranks, *arguments, **where):
        with running(code, ranks, *arguments, **where) as processes:
            told = [process.communicate(timeout=120) for process in processes]
        for process, (_, errors) in zip(processes, told, strict=True):
            assert process.returncode == 0, errors
        return [out for out, _ in told]

    return run
