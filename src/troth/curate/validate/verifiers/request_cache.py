"""Answers of an endpoint on disk, each under the hash of its whole request, so that a run that was killed asks nothing
twice. SQLite in WAL mode: several processes may share one file."""

import hashlib
import json
import sqlite3
import threading
from pathlib import Path
from typing import Any


class RequestCache:
    """Requests and their answers; safe to use from several threads. Answers are on disk when `put` returns."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._store = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
        self._store.execute("PRAGMA journal_mode=WAL")
        self._store.execute("PRAGMA synchronous=NORMAL")
        self._store.execute("CREATE TABLE IF NOT EXISTS answers (request TEXT PRIMARY KEY, answer TEXT) WITHOUT ROWID")

    @staticmethod
    def key(url: str, body: dict[str, Any]) -> str:
        """The name of a request: what is asked, of whom, and how."""
        return hashlib.sha256(json.dumps([url, body], sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer to a request, if it was ever given."""
        with self._lock:
            row = self._store.execute("SELECT answer FROM answers WHERE request = ?", (key,)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def put(self, key: str, answer: dict[str, Any]) -> None:
        """Keep an answer."""
        with self._lock:
            self._store.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(answer)))
