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
    SELECT id, previous, 0 FROM responses WHERE id = ?
    UNION ALL
    SELECT r.id, r.previous, depth + 1 FROM responses r JOIN chain ON r.id = chain.previous
)
SELECT input, response, responses.previous FROM chain JOIN responses USING (id) ORDER BY depth DESC
"""


@dataclass(frozen=True)
class Stored:
    """An answer as it was sent, and the items it was asked with."""

    items: list[dict[str, Any]]
    response: dict[str, Any]


class ResponseStore:
    """Holds the newest `most` answers, none longer than `days`. Every method is quick, and safe from any thread."""

    def __init__(self, path: Path | None, most: int, days: float):
        """Raises ValueError where the file at `path` is not what it should be; without a path all is in memory."""
        self._most, self._days = most, days
        self._lock = threading.Lock()
        try:
            self._base = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS responses "
                "(id TEXT PRIMARY KEY, previous TEXT, created REAL, input TEXT, response TEXT) STRICT"
            )
            self._base.execute("CREATE INDEX IF NOT EXISTS by_age ON responses (created)")
        except sqlite3.Error as error:
            raise ValueError(f"{path}: cannot hold responses ({error})") from error

    def put(self, items: list[dict[str, Any]], response: dict[str, Any]) -> None:
        """Keep an answer under its id, and forget what is too old or too much."""
        now = time.time()
        row = response["id"], response["previous_response_id"], now, json.dumps(items), json.dumps(response)
        with self._lock:
            self._base.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?)", row)
            self._base.execute(
                "DELETE FROM responses WHERE created < ? OR "
                "id IN (SELECT id FROM responses ORDER BY created DESC LIMIT -1 OFFSET ?)",
                (now - self._days * _DAY, self._most),
            )

    def chain(self, response_id: str) -> list[Stored]:
        """An answer and those that it goes on from, oldest first; empty where one of them is not there (any more)."""
        with self._lock:
            rows = self._base.execute(_CHAIN, (response_id,)).fetchall()
        if not rows or rows[0][2] is not None:
            return []
        return [Stored(json.loads(items), json.loads(response)) for items, response, _ in rows]

    def get(self, response_id: str) -> Stored | None:
        """One answer; None where it is not there."""
        with self._lock:
            row = self._base.execute("SELECT input, response FROM responses WHERE id = ?", (response_id,)).fetchone()
        return None if row is None else Stored(*map(json.loads, row))

    def delete(self, response_id: str) -> bool:
        """Forget an answer; False where it is not there."""
        with self._lock:
            return self._base.execute("DELETE FROM responses WHERE id = ?", (response_id,)).rowcount > 0

    def close(self) -> None:
        """Nothing can be asked after this."""
        with self._lock:
            self._base.close()
