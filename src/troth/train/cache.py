"""Files of a remote folder, fetched by fsspec ahead of use into a local folder of bounded size.

A fetched file is named by its checksum and appears only when that was found right, so whatever is there can be used, by
any process of the machine; they take turns by file locks, and what none has used for longest goes first.
"""

import contextlib
import fcntl
import hashlib
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from troth.system.storage import filesystem
from troth.train.shard_file import ShardFile

_AT_A_TIME = 4
_BLOCK = 2**22


class Cache:
    """Files of `url`, of which at most `limit` bytes are kept in `folder`."""

    def __init__(self, url: str, folder: Path, limit: int):
        self.url, self.folder, self.limit = url, folder, limit
        folder.mkdir(parents=True, exist_ok=True)
        self.slots = threading.Semaphore(_AT_A_TIME)
        self.coming: dict[str, Future[None]] = {}
        self.wanted: dict[str, list[ShardFile]] = {}
        for partial in folder.glob("*.partial"):  # Left by a process that was killed, unless somebody holds its lock.
            lock = _locked(partial.with_suffix(".lock"), fcntl.LOCK_NB)
            with contextlib.suppress(BlockingIOError, FileNotFoundError), lock:
                self._drop(partial)

    def open(self, file: ShardFile) -> np.ndarray:
        """Its bytes, memory-mapped. Raises ValueError naming a file that cannot be had or is not what was written."""
        while True:
            self._start(file)
            self.coming.pop(file.sha256).result()
            try:
                return np.memmap(self.folder / file.sha256, dtype=np.uint8, mode="r")
            except FileNotFoundError:
                continue  # Another process needed the room just now.

    def ahead(self, reader: str, files: Iterable[ShardFile]) -> None:
        """Fetch in the background what a reader wants now and next, in place of what it wanted before.

        What goes wrong is raised by `open`.
        """
        self.wanted[reader] = list(files)
        for file in self.wanted[reader]:
            self._start(file)

    def _start(self, file: ShardFile) -> None:
        if file.sha256 not in self.coming:
            future: Future[None] = Future()
            self.coming[file.sha256] = future
            # A daemon, so that a program that ends does not wait for files that it no longer needs.
            threading.Thread(target=self._bring, args=(file, future), daemon=True).start()

    def _bring(self, file: ShardFile, future: Future[None]) -> None:
        kept = self.folder / file.sha256
        try:
            with self.slots, _locked(kept.with_suffix(".lock")):
                try:
                    os.utime(kept)
                except FileNotFoundError:
                    self._fetch(file, kept)
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)

    def _fetch(self, file: ShardFile, kept: Path) -> None:
        url = f"{self.url}/{file.name}"
        partial = kept.with_suffix(".partial")
        self._make_room(file.bytes, partial)
        found, size = hashlib.sha256(), 0
        try:
            fs, path = filesystem(self.url)
            with fs.open(f"{path}/{file.name}") as source, partial.open("r+b") as copy:
                while block := source.read(_BLOCK):
                    copy.write(block)
                    found.update(block)
                    size += len(block)
        except Exception as error:  # Every file system has errors of its own.
            self._drop(partial)
            raise ValueError(f"{url}: cannot be fetched ({error!r})") from error
        if (size, found.hexdigest()) != (file.bytes, file.sha256):
            self._drop(partial)
            raise ValueError(f"{url}: damaged; its {size:,} bytes are not the {file.bytes:,} that shards.json lists")
        with self._alone():
            os.replace(partial, kept)

    def _drop(self, partial: Path) -> None:
        with self._alone():
            partial.unlink()

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """Files come, go and change their names one after another, so that the room taken can be added up."""
        return _locked(self.folder / "room.lock")

    def _make_room(self, size: int, partial: Path) -> None:
        """Take the room for a file, from those used longest ago. One that is mapped can still be read where it is."""
        with self._alone():
            for file in itertools.chain.from_iterable(list(self.wanted.values())):
                with contextlib.suppress(FileNotFoundError):
                    os.utime(self.folder / file.sha256)
            held = [(path, path.stat()) for path in self.folder.iterdir() if path.suffix != ".lock" and path != partial]
            room = self.limit - size - sum(stat.st_size for _, stat in held)
            for path, stat in sorted(held, key=lambda item: item[1].st_mtime_ns):
                if room < 0 and path.suffix != ".partial":
                    path.unlink()
                    room += stat.st_size
            with partial.open("wb") as taken:
                taken.truncate(size)


@contextlib.contextmanager
def _locked(path: Path, flags: int = 0) -> Iterator[None]:
    """Alone with a file, among threads and processes."""
    with path.open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | flags)
        yield
