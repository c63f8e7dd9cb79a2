"""One file of tokens: documents one after another, then where each ends and how often it is read.

The tokens are followed, from the next multiple of 8 bytes, by an int64 for the end of each document and a uint16 for
its repeats, in quarters of weight. Sizes and checksum stand in shards.json (`shards`).
"""

import hashlib
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class ShardFile:
    """One file: `read` counts a document's tokens as often as its quarters of weight."""

    name: str
    tokens: int
    documents: int
    read: int
    bytes: int
    sha256: str


class Shard:
    """One file, mapped: an epoch reads the documents `tokens[starts[i]:ends[i]]`, one of more weight several times."""

    def __init__(self, file: ShardFile, data: np.ndarray, dtype: np.dtype, divisor: int):
        data = np.asarray(data)  # Slices of a plain array are made several times as fast as those of a memmap.
        self.tokens = data[: file.tokens * dtype.itemsize].view(dtype)
        at = _aligned(self.tokens.nbytes)
        ends = data[at : at + 8 * file.documents].view(np.int64)
        repeats = data[at + 8 * file.documents :].view(np.uint16) // divisor
        self.ends = np.repeat(ends, repeats)
        self.starts = np.repeat(np.concatenate(([0], ends[:-1])), repeats)


class GrowingFile:
    """A file that grows. It is opened for each addition, so that any number of collections can grow side by side."""

    def __init__(self, path: Path):
        self.path, self.hash, self.tokens, self.read, self.bytes = path, hashlib.sha256(), 0, 0, 0
        self.ends, self.parts = array("q"), array("H")

    def add(self, tokens: np.ndarray, lengths: list[int], parts: list[int]) -> None:
        """Append documents of so many tokens and quarters of weight."""
        for length, part in zip(lengths, parts, strict=True):
            self.tokens += length
            self.read += length * part
            self.ends.append(self.tokens)
            self.parts.append(part)
        self._write(tokens.tobytes())

    def finish(self) -> ShardFile:
        """Append what is known of the documents."""
        self._write(bytes(_aligned(self.bytes) - self.bytes) + self.ends.tobytes() + self.parts.tobytes())
        return ShardFile(
            self.path.name, self.tokens, len(self.ends), self.read, self.bytes, self.hash.hexdigest()
        )  # fmt: skip

    def _write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)
        self.hash.update(data)
        self.bytes += len(data)


def _aligned(size: int) -> int:
    return -(-size // 8) * 8
