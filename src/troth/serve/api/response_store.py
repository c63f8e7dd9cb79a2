"""Answers kept for `previous_response_id` and for asking again: SQLite, in a file or in memory."""

import json
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DAY = 86_400
_CHAIN = """
WITH RECURSIVE chain(id, previous, depth) AS (
    SELECT id, previous, 0 FROM responses WHERE id = ? AND holder IS ?
    UNION ALL
    SELECT r.id, r.previous, depth + 1 FROM responses r JOIN chain ON r.id = chain.previous
)
SELECT input, response, responses.previous FROM chain JOIN responses USING (id) ORDER BY depth DESC
"""

_SIZE = "ALTER TABLE responses ADD COLUMN bytes INTEGER AS (length(input) + length(response))"
_HELD = "SELECT count(*), total(bytes) FROM responses INDEXED BY by_age_with_size"
_FORGET_OLDEST = "DELETE FROM responses WHERE id = (SELECT id FROM responses ORDER BY created LIMIT 1)"


@dataclass(frozen=True)
class Stored:
    """An answer as it was sent, and the items it was asked with."""

    items: list[dict[str, Any]]
    response: dict[str, Any]


class ResponseStore:
    """Holds the newest `most` answers, `most_bytes` in all and none longer than `days`; each is there for the holder of
    the key that it was asked with (None without keys) alone. Every method is quick, and safe from any thread."""

    def __init__(self, path: Path | None, most: int, most_bytes: int, days: float):
        """Raises ValueError where the file at `path` is not what it should be; without a path all is in memory."""
        self._most, self._most_bytes, self._days = most, most_bytes, days
        self._lock = threading.Lock()
        try:
            self._base = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS responses "
                "(id TEXT PRIMARY KEY, holder TEXT, previous TEXT, created REAL, input TEXT, response TEXT) STRICT"
            )
            if not any(column[1] == "bytes" for column in self._base.execute("PRAGMA table_xinfo(responses)")):
                self._base.execute(_SIZE)
            # Sizes are in it, or they could be added up only by reading all that is kept.
            self._base.execute("CREATE INDEX IF NOT EXISTS by_age_with_size ON responses (created, bytes)")
        except sqlite3.Error as error:
            raise ValueError(f"{path}: cannot hold responses ({error})") from error

    def put(self, holder: str | None, items: list[dict[str, Any]], response: dict[str, Any]) -> None:
        """Keep an answer under its id, and forget what is too old or too much."""
        now = time.time()
        previous = response["previous_response_id"]
        row = response["id"], holder, previous, now, json.dumps(items), json.dumps(response)
        with self._lock:
            self._base.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?)", row)
            self._base.execute("DELETE FROM responses WHERE created < ?", (now - self._days * _DAY,))
            while self._too_much():
                self._base.execute(_FORGET_OLDEST)

    def _too_much(self) -> bool:
        count, size = self._base.execute(_HELD).fetchone()
        return bool(count > self._most or size > self._most_bytes)

    def chain(self, holder: str | None, response_id: str) -> list[Stored]:
        """An answer and those that it goes on from, oldest first; empty where one of them is not there (any more)."""
        with self._lock:
            rows = self._base.execute(_CHAIN, (response_id, holder)).fetchall()
        if not rows or rows[0][2] is not None:
            return []
        return [Stored(json.loads(items), json.loads(response)) for items, response, _ in rows]

    def get(self, holder: str | None, response_id: str) -> Stored | None:
        """One answer; None where it is not there."""
        select = "SELECT input, response FROM responses WHERE id = ? AND holder IS ?"
        with self._lock:
            row = self._base.execute(select, (response_id, holder)).fetchone()
        return None if row is None else Stored(*map(json.loads, row))

    def delete(self, holder: str | None, response_id: str) -> bool:
        """Forget an answer; False where it is not there."""
        delete = "DELETE FROM responses WHERE id = ? AND holder IS ?"
        with self._lock:
            return self._base.execute(delete, (response_id, holder)).rowcount > 0

    def close(self) -> None:
        """Nothing can be asked after this."""
        with self._lock:
            self._base.close()
