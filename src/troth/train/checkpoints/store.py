"""Where checkpoints lie: a folder on a disk or a prefix of object storage, reached by fsspec in one way.

A file is durable when it is closed: on a disk it and its folder are synced, in object storage closing ends the upload.
Checksums are XXH3 (128 bits, https://github.com/Cyan4973/xxHash): they find damage, at the speed of memory.
"""

import contextlib
import errno
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from troth.system.storage import filesystem

MANIFEST = "manifest.json"
_PIECE = 1 << 22
"""Bytes that are written and summed together, few enough to be in the cache still for the second."""


@dataclass(frozen=True)
class File:
    """What a file was when it was written: `size` in bytes, `checksum` in hexadecimal."""

    name: str
    size: int
    checksum: str


class Stream(io.RawIOBase):
    """Counts and sums what is written through it.

    torch.save reports its own error where a write fails; `error` keeps the reason.
    """

    def __init__(self, raw: IO[bytes]):
        from xxhash import xxh3_128

        self.raw, self.size, self.hash = raw, 0, xxh3_128()
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:
        with memoryview(data) as whole, whole.cast("B") as view:
            for start in range(0, view.nbytes, _PIECE):
                piece = view[start : start + _PIECE]
                try:
                    self.raw.write(piece)
                except OSError as error:
                    self.error = self.error or error
                    raise
                self.hash.update(piece)
            self.size += view.nbytes
            return view.nbytes


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Clients of object storage raise errors of their own, some of which cannot be sent to other ranks."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


class Store:
    """Folders `step-000000012` below one URL (`s3://bucket/run`, `memory://run`) or path.

    Names of files are `FOLDER/FILE`. Raises ValueError where fsspec knows no such kind of URL or lacks its client;
    its methods raise OSError.
    """

    def __init__(self, url: str | Path):
        from fsspec.implementations.local import LocalFileSystem

        self.url = str(url).rstrip("/")
        self.fs, self.root = filesystem(self.url)
        self.local = isinstance(self.fs, LocalFileSystem)

    def folders(self) -> dict[str, bool]:
        """All folders of checkpoints, the oldest first, and whether each has its manifest."""
        with plain_errors():
            self.fs.invalidate_cache()
            try:
                paths = self.fs.ls(self.root, detail=False)
            except FileNotFoundError:
                return {}
            names = sorted(str(path).rstrip("/").rpartition("/")[2] for path in paths)
            return {name: self.fs.exists(self._at(name, MANIFEST)) for name in names if re.fullmatch(r"step-\d+", name)}

    def make(self, folder: str) -> None:
        """Make a folder and those above it, durably."""
        with plain_errors():
            self.fs.makedirs(self._at(folder), exist_ok=True)
        if self.local:
            for path in (self.root, os.path.dirname(self.root)):
                _sync(path)

    def remove(self, folder: str) -> None:
        """Remove a folder, its manifest first: what is left of it after a kill no longer counts as a checkpoint."""
        with plain_errors():
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm_file(self._at(folder, MANIFEST))
                if self.local:
                    _sync(self._at(folder))
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm(self._at(folder), recursive=True)

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[Stream]:
        """A new file to write to; it is durable after the context."""
        with plain_errors():
            with self.fs.open(self._at(name), "wb") as raw:
                stream = Stream(raw)
                try:
                    yield stream
                except Exception as error:
                    raise stream.error or error from None
                if self.local:
                    raw.flush()
                    os.fsync(raw.fileno())
            if self.local:
                _sync(os.path.dirname(self._at(name)))

    def publish(self, name: str, data: bytes) -> None:
        """Write a file that appears whole or not at all."""
        with self.create(f"{name}.partial") as stream:
            stream.write(data)
        with plain_errors():
            self.fs.mv(self._at(f"{name}.partial"), self._at(name))
        if self.local:
            _sync(os.path.dirname(self._at(name)))

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A file to read from."""
        with plain_errors(), self.fs.open(self._at(name), "rb") as stream:
            yield stream

    def read(self, name: str) -> bytes:
        """All of a small file."""
        with self.open(name) as stream:
            return stream.read()

    def complaint(self, folder: str, file: File) -> str | None:
        """What is wrong with a file, if anything: the file read from the beginning to its end."""
        from xxhash import xxh3_128

        seen, size = xxh3_128(), 0
        try:
            with self.open(f"{folder}/{file.name}") as stream:
                while piece := stream.read(_PIECE):
                    seen.update(piece)
                    size += len(piece)
        except FileNotFoundError:
            return f"{file.name} is missing"
        except OSError as error:
            if error.errno != errno.EIO:  # Other errors are of the way to the file, which may be fine.
                raise
            return f"{file.name} cannot be read ({error})"
        if size != file.size:
            return f"{file.name} has {size:,} bytes where {file.size:,} were written"
        if seen.hexdigest() != file.checksum:
            return f"{file.name} does not hold what was written (its checksum differs)"
        return None

    def _at(self, *parts: str) -> str:
        return "/".join((self.root, *parts))


def _sync(folder: str) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
