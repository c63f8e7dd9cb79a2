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
    id TEXT PRIMARY KEY, holder TEXT, filename TEXT, purpose TEXT, bytes INTEGER, created_at INTEGER, expires_at INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY, holder TEXT, created REAL, status TEXT, batch TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS results (
    batch TEXT, line INTEGER, good INTEGER, result TEXT, PRIMARY KEY (batch, line)
) STRICT, WITHOUT ROWID;
"""
_COLUMNS = "id, filename, purpose, bytes, created_at, expires_at"
_STAYS = "(expires_at IS NULL OR expires_at > ?)"


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
        # Folders of earlier versions know files that stay.
        if "expires_at" not in [name for _, name, *_ in state.execute("PRAGMA table_info(files)")]:
            state.execute("ALTER TABLE files ADD COLUMN expires_at INTEGER")
    except (OSError, sqlite3.Error) as error:
        raise ValueError(f"serve.files_dir={folder}: cannot hold files ({error})") from error
    return state


@dataclass(frozen=True)
class StoredFile:
    """What is known of a file; times are in seconds since 1970, and what `expires_at` is None stays."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int | None = None

    def shown(self) -> dict[str, Any]:
        """The file object of OpenAI's API."""
        return {"object": "file", "status": "processed"} | asdict(self)


class FileStore:
    """Files by id; each belongs to the holder of a key (None without keys), whom alone it is shown to, while it has not
    expired."""

    def __init__(self, folder: Path, state: sqlite3.Connection):
        self.folder = folder
        self._state = state

    def add(
        self, source: BinaryIO, filename: str, purpose: str, holder: str | None, seconds: int | None
    ) -> StoredFile:
        """Copy what is left of `source`, for so many seconds."""

        def copy(path: Path) -> None:
            with path.open("wb") as file:
                shutil.copyfileobj(source, file)

        return self.write(copy, filename, purpose, holder, seconds)

    def write(
        self, fill: Callable[[Path], None], filename: str, purpose: str, holder: str | None, seconds: int | None
    ) -> StoredFile:
        """Keep what `fill` puts into the path it is given, for so many seconds; nothing is kept where it fails."""
        file_id = new_id("file")
        path = self.path(file_id)
        try:
            fill(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        now = int(time.time())
        expires_at = None if seconds is None else now + seconds
        stored = StoredFile(file_id, filename, purpose, path.stat().st_size, now, expires_at)
        row = (file_id, holder, filename, purpose, stored.bytes, now, expires_at)
        self._state.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return stored

    def get(self, file_id: str, holder: str | None) -> StoredFile | None:
        """None where there is none, or it is another's."""
        where = f"WHERE id = ? AND holder IS ? AND {_STAYS}"
        row = self._state.execute(f"SELECT {_COLUMNS} FROM files {where}", (file_id, holder, time.time())).fetchone()
        return None if row is None else StoredFile(*row)

    def all(self, holder: str | None, purpose: str | None) -> list[StoredFile]:
        """A holder's files, newest first; of one purpose only where it is given."""
        where = f"WHERE holder IS ? AND (? IS NULL OR purpose = ?) AND {_STAYS} ORDER BY created_at DESC, rowid DESC"
        rows = self._state.execute(f"SELECT {_COLUMNS} FROM files {where}", (holder, purpose, purpose, time.time()))
        return [StoredFile(*row) for row in rows]

    def bytes(self, holder: str | None) -> int:
        """How many all of a holder's files have."""
        query = "SELECT coalesce(sum(bytes), 0) FROM files WHERE holder IS ?"
        return self._state.execute(query, (holder,)).fetchone()[0]

    def expired(self) -> list[str]:
        """Ids of all files, whosever, whose bytes are still there and should not be."""
        rows = self._state.execute(f"SELECT id FROM files WHERE NOT {_STAYS}", (time.time(),))
        return [file_id for (file_id,) in rows]

    def delete(self, file_id: str) -> None:
        """Forget a file and its bytes."""
        self._state.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self.path(file_id).unlink(missing_ok=True)

    def path(self, file_id: str) -> Path:
        """Where the bytes are."""
        return self.folder / file_id
