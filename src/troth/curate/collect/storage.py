"""Files on this machine or at an fsspec URL: which there are, and their bytes as a stream."""

import bz2
import codecs
import gzip
import io
import lzma
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import PurePosixPath
from typing import Any

from troth.curate.collect.encoding import decode
from troth.curate.collect.licences import is_licence_file, licence_of
from troth.system.storage import filesystem

_BUFFER = 1 << 20
_LICENCE_BYTES = 64 << 10
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes of files that are unpacked as they are read."""


@dataclass(frozen=True)
class File:
    """A file below a source: `path` is what its file system calls it, `name` its path below the source. `version`
    changes where the file does; `modified` is an ISO date; `licence` that of the nearest LICENSE file."""

    path: str
    name: str
    size: int
    version: str
    modified: str
    licence: str


def list_files(source: str) -> Iterator[File]:
    """A source that is a file, or all files below it, in the order of their names.

    Hidden files and folders are passed over. Links to folders are followed, but for those that are read anyway; one
    to a folder that holds the source is set aside, for it would never end. Memory holds one folder at a time.
    Raises ValueError where the source does not exist or cannot be reached.
    """
    try:
        fs, root = filesystem(source)
        if source.startswith(("http://", "https://")):
            is_folder = source.endswith("/")
        else:
            is_folder = fs.isdir(root)
        if is_folder:
            yield from _below(fs, root.rstrip("/") or "/", "", "", [os.path.realpath(root)])
        else:
            yield _file(fs.info(root), root, PurePosixPath(root).name, "")
    except FileNotFoundError as error:  # fsspec's for HTTP, too, where no server answers
        is_silent = isinstance(error.__cause__, OSError)
        why = f"cannot be reached ({error.__cause__})" if is_silent else "no such file or folder"
        raise ValueError(f"{source}: {why}") from None
    except ValueError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise ValueError(f"{source}: cannot be read ({type(error).__name__}: {error})") from error


def _below(fs: Any, folder: str, under: str, licence: str, read: list[str]) -> Iterator[File]:
    """All files below a folder; `read` are the real folders that are read with all that is below them."""
    entries: dict[str, Any] = {}
    for info in fs.ls(folder, detail=True):
        name = info["name"].rstrip("/").rpartition("/")[2]
        if not name or name.startswith(".") or info["name"].rstrip("/") == folder.rstrip("/"):
            continue
        info = _followed(fs, info)
        if (shown := _printable(name)) != name:
            name, info = shown, _nowhere(f"{_printable(info['name'])} (its name is not UTF-8)")
        if info["type"] in ("file", "directory"):
            # Folders sort as if a slash stood behind them, which gives the order of whole paths.
            entries[f"{name}/" if info["type"] == "directory" else name] = info
    licence = _licence(fs, entries) or licence
    for name, info in sorted(entries.items()):
        if not name.endswith("/"):
            yield _file(info, info["name"], under + name, licence)
            continue
        path = info["name"].rstrip("/")
        if info.get("islink"):
            path = os.path.realpath(path)
            if any(_holds(one, path) for one in read):
                continue
            if any(_holds(path, one) for one in read):
                endless = _nowhere(f"{path} (a link to a folder that holds what is read)")
                yield _file(endless, endless["name"], under + name.rstrip("/"), licence)
                continue
            read.append(path)
        yield from _below(fs, path, under + name, licence, read)


def _holds(folder: str, other: str) -> bool:
    return os.path.commonpath((folder, other)) == folder


def _followed(fs: Any, info: dict[str, Any]) -> dict[str, Any]:
    """What a link leads to, or a file that cannot be opened where it leads nowhere."""
    if not info.get("islink"):
        return info
    try:
        found: dict[str, Any] = fs.info(info["name"])
    except OSError:
        return _nowhere(info["name"])
    return found


def _nowhere(path: str) -> dict[str, Any]:
    """A file that will be set aside, for it cannot be opened."""
    return {"name": path, "type": "file", "size": 0}


def _printable(name: str) -> str:
    """A name as text, bytes that are no UTF-8 escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _licence(fs: Any, entries: dict[str, Any]) -> str:
    for name in filter(is_licence_file, sorted(entries)):
        try:
            with fs.open(entries[name]["name"], "rb") as stream:
                found = licence_of(decode(stream.read(_LICENCE_BYTES))[0])
        except (OSError, ValueError):
            continue
        if found:
            return found
    return ""


def _file(info: dict[str, Any], path: str, name: str, licence: str) -> File:
    return File(path, name, int(info.get("size") or 0), version(info), _day(info), licence)


def version(info: dict[str, Any]) -> str:
    """What changes when a file does: its tag, or when it was last written."""
    keys = "ETag", "etag", "mtime", "LastModified", "last_modified", "updated"
    return next((str(info[key]) for key in keys if info.get(key)), "")


def _day(info: dict[str, Any]) -> str:
    when = next((info[key] for key in ("mtime", "LastModified", "last_modified", "updated") if info.get(key)), None)
    if isinstance(when, datetime):
        return when.astimezone(UTC).date().isoformat()
    if isinstance(when, int | float):
        return datetime.fromtimestamp(when, UTC).date().isoformat()
    return when[:10] if isinstance(when, str) else date.today().isoformat()


class Source(io.RawIOBase):
    """The bytes of a file as they lie up to `end`, counted; an error of the file system is kept in `error`, so that it
    is not taken for a broken file."""

    def __init__(self, stream: Any, end: int | None = None):
        self.stream = stream
        self.end = end
        self.count = 0
        self.error: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self.stream.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self.stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self.stream.tell())

    def readinto(self, buffer: Any) -> int:
        try:
            most = len(buffer) if self.end is None else max(0, self.end - self.stream.tell())
            data = self.stream.read(min(len(buffer), most))
        except Exception as error:
            self.error = error
            raise
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)


class _Pieces(io.RawIOBase):
    """What an unpacker has ready, so that all that comes before the cut of a truncated file is read."""

    def __init__(self, packed: Any):
        self._packed = packed

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._packed.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._packed.seek(offset, whence))

    def tell(self) -> int:
        return int(self._packed.tell())

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._packed.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def line_slice(stream: Any, start: int, end: int) -> Source:
    """Of an open file, the lines that begin in the bytes from `start` to before `end`. In UTF-16, where a line's end is
    no byte, the first slice is all of the file."""
    if stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        stream.seek(0)
        return Source(stream, 0 if start else None)
    stop = _next_line(stream, end)
    stream.seek(_next_line(stream, start))
    return Source(stream, stop)


def _next_line(stream: Any, offset: int) -> int:
    """Where the first line begins that does so at `offset` or later, or the end of the file."""
    if not offset:
        return 0
    stream.seek(offset - 1)
    at = offset - 1
    while piece := stream.read(_BUFFER):
        found = piece.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(piece)
    return at


@contextmanager
def unpacked(source: Source, name: str) -> Iterator[io.BufferedReader]:
    """A stream of a file's content: what its name says is packed comes unpacked."""
    plain: Any = io.BufferedReader(source, _BUFFER)
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _OPENERS:
        with _OPENERS[suffix](plain, "rb") as inner:
            yield io.BufferedReader(_Pieces(inner), _BUFFER)
    elif suffix == ".zst":
        import pyarrow as pa

        with pa.CompressedInputStream(plain, "zstd") as inner:
            yield io.BufferedReader(inner, _BUFFER)
    else:
        yield plain
