"""Records of a fixed size on disk, in buckets by a hash, so that what belongs together is joined a bucket at a time."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from troth.curate.filter.words import Hashes, runs_of_equals

BUCKET_BYTES = 16 << 20
"""What one bucket holds, about; joining it takes some three times as much memory."""
_MOST = 4096
"""Files at most."""


class Buckets:
    """A folder of buckets for about `size` bytes of records of one `form`; emptied at first, removed at the end."""

    def __init__(self, folder: Path, form: np.dtype[Any], size: int):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder, self._form = folder, form
        self.count = int(min(_MOST, max(1, -(-size // BUCKET_BYTES))))

    def add(self, records: npt.NDArray[Any], keys: Hashes) -> None:
        """Put records where their keys (of their shape) belong."""
        if self.count == 1:
            self._append(0, records)
            return
        places = keys % np.uint64(self.count)
        order = np.argsort(places, kind="stable")
        records, places = records[order], places[order]
        edges = np.searchsorted(places, np.arange(self.count + 1))
        for number, (start, end) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
            if end > start:
                self._append(number, records[start:end])

    def read(self) -> Iterator[npt.NDArray[Any]]:
        """Each bucket, whole; after that the folder is gone."""
        for number in range(self.count):
            path = self._path(number)
            if path.exists():
                yield np.fromfile(path, self._form)
        shutil.rmtree(self._folder)

    def _append(self, number: int, records: npt.NDArray[Any]) -> None:
        with self._path(number).open("ab") as file:
            file.write(records.tobytes())

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:04d}"


def in_order(marks: npt.NDArray[np.int64], count: int) -> Hashes:
    """Keys by which so many buckets, read one after another, give marks of 63 bits in their order."""
    return ((marks >> 31).astype(np.uint64) * np.uint64(count)) >> np.uint64(32)


def groups(keys: npt.NDArray[Any]) -> Iterator[tuple[int, int]]:
    """First and last place (excluded) of each run of two or more equal keys, which are sorted."""
    first, sizes = runs_of_equals(keys)
    many = sizes > 1
    yield from zip(first[many].tolist(), (first + sizes)[many].tolist(), strict=True)
