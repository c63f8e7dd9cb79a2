"""Where each rank stands: a record a rank, in memory that the processes of one machine share."""

import os
import tempfile
from pathlib import Path

import numpy as np

RECORD = np.dtype(
    [
        ("rank", "i4"),
        ("node", "i4"),
        ("step", "i8"),
        ("place", "i4"),
        ("phase", "S20"),
        ("alive", "f8"),
        ("moved", "f8"),
        ("own", "f8"),
    ]
)
"""`place` counts the phases of a step. `alive` and `moved` are when the rank last gave a sign of life and last entered
a phase: on a board by its machine's clock, in what machines tell each other as ages in seconds. `own` is the median of
the time that the rank's own work took lately, in seconds, not a number while that is unknown."""


class Board:
    """The records of the ranks of this machine, each written by its rank alone and read by all of them."""

    def __init__(self, path: Path, slots: int):
        self.records = np.memmap(path, RECORD, "r+", shape=(slots,))

    def ages(self, now: float) -> np.ndarray:
        """A copy of the records that have been written, with ages for moments; `now` is by `time.monotonic`."""
        records = np.array(self.records)
        records = records[records["alive"] > 0]
        for name in ("alive", "moved"):
            records[name] = now - records[name]
        return records


def create_board(slots: int) -> Path:
    """An empty board: a file in memory where the system has a folder for such, else among temporary files.

    Whoever has opened it last removes its name; the memory lives as long as a process has it open.
    """
    folder = "/dev/shm" if os.path.isdir("/dev/shm") else None
    handle, name = tempfile.mkstemp(prefix="troth-board-", dir=folder)
    with os.fdopen(handle, "wb") as file:
        file.truncate(slots * RECORD.itemsize)
    return Path(name)
