"""One process at a time has a folder that runs write to."""

import fcntl
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# As a Path has it, which makes one slash of two.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")


@contextmanager
def held(folder: Path, doing: str, patience: float = 20.0) -> Iterator[None]:
    """Keep other processes that would be `doing` the same out of a folder meanwhile, or until this process ends, in
    whatever way it does.

    Waits for `patience` seconds, since the one that has it may be just about to end. Raises ValueError naming the
    process that has the folder, and where it cannot be one. On a file system without locks nothing is held.
    """
    if _ADDRESS.match(str(folder)):
        raise ValueError(f"{folder}: an address, where a folder of this machine has to be")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{folder}: a file, where a folder has to be") from error
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                holder = os.read(handle, 256).decode()
                os.close(handle)
                raise ValueError(f"{folder}: {holder} is {doing} it; wait for it or end it") from None
            time.sleep(0.2)
        except OSError:
            break
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()}".encode(), 0)
        yield
    finally:
        os.close(handle)
