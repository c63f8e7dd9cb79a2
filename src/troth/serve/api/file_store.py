"""Files that clients upload and batches write: bytes in a folder, what they are in SQLite beside them."""

import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from troth.serve.api.served import new_id

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, holder TEXT, filename TEXT, purpose TEXT, bytes INTEGER, created_at INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY, holder TEXT, created REAL, status TEXT, batch TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS results (
    batch TEXT, line INTEGER, good INTEGER, result TEXT, PRIMARY KEY (batch, line)
) STRICT, WITHOUT ROWID;
"""


def open_state(folder: Path) -> sqlite3.Connection:
    """The database of files and batches in a folder, which is made where it is missing.

    Raises ValueError where the folder cannot hold one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        state = sqlite3.connect(folder / "state.sqlite", isolation_level=None, check_same_thread=False)
        state.execute("PRAGMA journal_mode = WAL")
        state.execute("PRAGMA synchronous = NORMAL")
        state.executescript(_SCHEMA)
    except (OSError, sqlite3.Error) as error:
        raise ValueError(f"serve.files_dir={folder}: cannot hold files ({error})") from error
    return state


@dataclass(frozen=True)
class StoredFile:
    """What is known of a file; `created_at` in seconds since 1970."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: int

    def shown(self) -> dict[str, Any]:
        """The file object of OpenAI's API."""
        return {"object": "file", "status": "processed", "expires_at": None} | asdict(self)


class FileStore:
    """Files by id; each belongs to the holder of a key (None without keys), whom alone it is shown to."""

    def __init__(self, folder: Path, state: sqlite3.Connection):
        self.folder = folder
        self._state = state

    def add(self, source: BinaryIO, filename: str, purpose: str, holder: str | None) -> StoredFile:
        """Copy what is left of `source`."""

        def copy(path: Path) -> None:
            with path.open("wb") as file:
                shutil.copyfileobj(source, file)

        return self.write(copy, filename, purpose, holder)

    def write(self, fill: Callable[[Path], None], filename: str, purpose: str, holder: str | None) -> StoredFile:
        """Keep what `fill` puts into the path it is given; nothing is kept where it fails."""
        file_id = new_id("file")
        path = self.path(file_id)
        try:
            fill(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        stored = StoredFile(file_id, filename, purpose, path.stat().st_size, int(time.time()))
        row = (file_id, holder, filename, purpose, stored.bytes, stored.created_at)
        self._state.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)", row)
        return stored

    def get(self, file_id: str, holder: str | None) -> StoredFile | None:
        """None where there is none, or it is another's."""
        columns = "id, filename, purpose, bytes, created_at"
        where = "WHERE id = ? AND holder IS ?"
        row = self._state.execute(f"SELECT {columns} FROM files {where}", (file_id, holder)).fetchone()
        return None if row is None else StoredFile(*row)

    def all(self, holder: str | None, purpose: str | None) -> list[StoredFile]:
        """A holder's files, newest first; of one purpose only where it is given."""
        columns = "id, filename, purpose, bytes, created_at"
        where = "WHERE holder IS ? AND (? IS NULL OR purpose = ?) ORDER BY created_at DESC, rowid DESC"
        rows = self._state.execute(f"SELECT {columns} FROM files {where}", (holder, purpose, purpose))
        return [StoredFile(*row) for row in rows]

    def delete(self, file_id: str) -> None:
        """Forget a file and its bytes."""
        self._state.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self.path(file_id).unlink(missing_ok=True)

    def path(self, file_id: str) -> Path:
        """Where the bytes are."""
        return self.folder / file_id
