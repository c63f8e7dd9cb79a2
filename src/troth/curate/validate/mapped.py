"""Files mapped into memory for reading, whose pages a process can let go: the kernel keeps them in its cache."""

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class Maps:
    """Some files, mapped."""

    def __init__(self) -> None:
        self._maps: list[mmap.mmap] = []

    def array(self, path: Path, kind: npt.DTypeLike) -> npt.NDArray[Any]:
        """All of a file as numbers of one kind [N]."""
        if not path.stat().st_size:
            return np.zeros(0, kind)
        with path.open("rb") as file:
            self._maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return np.frombuffer(self._maps[-1], kind)

    def let_go(self) -> None:
        """Hold no page any more until it is looked at again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for one in self._maps:
                one.madvise(mmap.MADV_DONTNEED)


class Pieces:
    """A file that is read piece by piece, without being mapped, for pieces that lie far apart."""

    def __init__(self, path: Path):
        self._file = path.open("rb")
        self._number = self._file.fileno()

    def read(self, first: int, last: int) -> bytes:
        """Bytes `first:last`."""
        return os.pread(self._number, last - first, first)
