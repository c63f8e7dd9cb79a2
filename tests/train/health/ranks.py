"""Real processes that make one process group."""

import os
import subprocess
import sys
from contextlib import contextmanager

import torch.distributed as dist


@contextmanager
def ranks(code, count, *arguments, machines=None, store_apart=True):
    """Start `count` ranks that run `code`; all are gone at the end.

    The store that they meet at is here, unless it is to be with rank 0. With `machines` they are told, as torchrun does,
    that they sit on so many.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    port = store.port
    if not store_apart:
        del store
    processes = []
    for rank in range(count):
        where = {"RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        where["TORCHELASTIC_USE_AGENT_STORE"] = store_apart
        if machines:
            local = count // machines
            where |= {"GROUP_RANK": rank // local, "GROUP_WORLD_SIZE": machines}
            where |= {"LOCAL_RANK": rank % local, "LOCAL_WORLD_SIZE": local}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *map(str, arguments)], env=os.environ | {k: str(v) for k, v in where.items()},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        )
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def results(processes, timeout=60):
    """What each rank printed; an error of one is shown."""
    told = [process.communicate(timeout=timeout) for process in processes]
    for process, (_, errors) in zip(processes, told, strict=True):
        assert process.returncode == 0, errors
    return [out for out, _ in told]
