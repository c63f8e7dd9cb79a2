"""Ways to hurt a training run from outside, as machines, disks and networks do (Linux). What connections are dropped by
needs the right to trace the ranks, and a disk of its own the right to mount: both are root's."""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_PIDFD_GETFD = 438
_ESTABLISHED = "01"


def ranks_of(launcher: int) -> dict[int, int]:
    """Number and process id of the ranks that a torchrun has running."""
    ranks = {}
    for children in Path(f"/proc/{launcher}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for pid in map(int, children.read_text().split()):
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                found = [int(value[5:]) for value in variables if value.startswith(b"RANK=")]
                ranks |= dict.fromkeys(found, pid)
    return ranks


def kill_rank(ranks: dict[int, int], chance: random.Random) -> str:
    """SIGKILL to one of them."""
    rank = chance.choice(sorted(ranks))
    os.kill(ranks[rank], signal.SIGKILL)
    return f"rank {rank} killed"


def drop_connection(ranks: dict[int, int], chance: random.Random) -> str | None:
    """Shut down one of a rank's TCP connections, to another rank or to the store of the process group, by a copy of its
    socket: both ends find it closed, as when a switch resets it. None while there are none."""
    table = _connections()
    held = [(rank, *found) for rank, pid in sorted(ranks.items()) for found in _sockets(pid)]
    sockets = [(rank, fd, inode) for rank, fd, inode in held if inode in table]
    if not sockets:
        return None
    others = {table[inode]: rank for rank, _, inode in sockets}
    between = [found for found in sockets if table[found[2]][::-1] in others]
    rank, fd, inode = chance.choice(between if between and chance.random() < 0.7 else sockets)
    peer = others.get(table[inode][::-1])
    process = os.pidfd_open(ranks[rank])
    try:
        copy = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, process, fd, 0)
        if copy < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        with socket.socket(fileno=copy) as connection:
            connection.shutdown(socket.SHUT_RDWR)
    finally:
        os.close(process)
    return f"connection of rank {rank} with {'the store' if peer is None else f'rank {peer}'} dropped"


def damage(folder: Path, truncate: bool, chance: random.Random) -> str | None:
    """Cut off the end of a file of the checkpoint in `folder`, or change one of its bytes. None where it is gone."""
    try:
        path = chance.choice(sorted(folder.iterdir()))
        size = path.stat().st_size
        place = chance.randrange(size)
        if truncate:
            os.truncate(path, place)
            return f"{folder.name}/{path.name} cut from {size:,} to {place:,} bytes"
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))
        return f"{folder.name}/{path.name} has a bit flipped at byte {place:,}"
    except (FileNotFoundError, IndexError):
        return None


def fill_disk(folder: Path, seconds: float) -> str:
    """Leave nothing free on the file system of `folder` for a while."""
    end, filler = time.monotonic() + seconds, folder / "filler"
    with filler.open("wb", buffering=0) as file:
        while time.monotonic() < end:
            for piece in (b"0" * (1 << 20), b"0" * 4096):
                with contextlib.suppress(OSError):
                    while file.write(piece):
                        continue
            time.sleep(0.02)  # What others free is taken too.
    filler.unlink()
    return f"disk full for {seconds:.1f} s"


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own in `folder`, in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _sockets(pid: int) -> Iterator[tuple[int, str]]:
    """Descriptor and inode of a process's sockets."""
    with contextlib.suppress(OSError):
        for link in sorted(Path(f"/proc/{pid}/fd").iterdir(), key=lambda path: int(path.name)):
            with contextlib.suppress(OSError):
                if (name := os.readlink(link)).startswith("socket:["):
                    yield int(link.name), name[8:-1]


def _connections() -> dict[str, tuple[str, str]]:
    """The two addresses of each established connection of this machine, by its inode."""
    lines = [line.split() for kind in ("tcp", "tcp6") for line in Path("/proc/net", kind).read_text().splitlines()[1:]]
    return {line[9]: (line[1], line[2]) for line in lines if line[3] == _ESTABLISHED}
