"""Batches and the results of their lines, in SQLite: what a restarted server goes on from."""

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

OPEN = ("validating", "in_progress", "finalizing", "cancelling")
_IS_OPEN = f"status IN ({', '.join('?' * len(OPEN))})"


@dataclass(frozen=True)
class Batch:
    """A batch, whose it is, and its object in OpenAI's API."""

    id: str
    holder: str | None
    shown: dict[str, Any]

    @property
    def status(self) -> str:
        """One of OPEN, or completed, failed, expired, cancelled."""
        return self.shown["status"]


class BatchStore:
    """Batches by id, and results by batch and line number. Quick enough for the event loop."""

    def __init__(self, state: sqlite3.Connection):
        self._state = state

    def put(self, batch: Batch) -> None:
        """Keep a new batch."""
        row = (batch.id, batch.holder, time.time(), batch.status, json.dumps(batch.shown))
        self._state.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", row)

    def change(self, batch: Batch, status: str, **fields: Any) -> Batch:
        """Set the status and the time of that, and further fields; returns the batch as it now is."""
        at = {} if status == "validating" else {f"{status}_at": int(time.time())}
        changed = Batch(batch.id, batch.holder, batch.shown | {"status": status} | at | fields)
        row = (status, json.dumps(changed.shown), batch.id)
        self._state.execute("UPDATE batches SET status = ?, batch = ? WHERE id = ?", row)
        return changed

    def get(self, batch_id: str) -> Batch | None:
        """With the counts of this moment; None where there is none."""
        row = self._state.execute("SELECT id, holder, batch FROM batches WHERE id = ?", (batch_id,)).fetchone()
        return None if row is None else self._counted(row)

    def status(self, batch_id: str) -> str:
        """Of a batch that there is."""
        [status] = self._state.execute("SELECT status FROM batches WHERE id = ?", (batch_id,)).fetchone()
        return status

    def all(self, holder: str | None) -> list[Batch]:
        """A holder's batches, newest first."""
        where = "WHERE holder IS ? ORDER BY created DESC"
        rows = self._state.execute(f"SELECT id, holder, batch FROM batches {where}", (holder,)).fetchall()
        return [self._counted(row) for row in rows]

    def oldest_open(self) -> Batch | None:
        """Of those that something is still to be done for."""
        query = f"SELECT id, holder, batch FROM batches WHERE {_IS_OPEN} ORDER BY created LIMIT 1"
        row = self._state.execute(query, OPEN).fetchone()
        return None if row is None else self._counted(row)

    def reading(self, file_id: str) -> str | None:
        """The id of an open batch whose input a file is."""
        query = f"SELECT id FROM batches WHERE {_IS_OPEN} AND json_extract(batch, '$.input_file_id') = ? LIMIT 1"
        row = self._state.execute(query, (*OPEN, file_id)).fetchone()
        return None if row is None else row[0]

    def add_result(self, batch_id: str, line: int, good: bool, result: dict[str, Any]) -> None:
        """Keep what came of a line of the input file."""
        row = (batch_id, line, good, json.dumps(result))
        self._state.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)", row)

    def answered(self, batch_id: str) -> set[int]:
        """Numbers of the lines that have a result."""
        return {line for (line,) in self._state.execute("SELECT line FROM results WHERE batch = ?", (batch_id,))}

    def results(self, batch_id: str, good: bool) -> Iterator[str]:
        """Results as JSON, in the order of the lines."""
        where = "WHERE batch = ? AND good = ? ORDER BY line"
        for (result,) in self._state.execute(f"SELECT result FROM results {where}", (batch_id, good)):
            yield result

    def forget_results(self, batch_id: str) -> None:
        """Drop results that are now in files."""
        self._state.execute("DELETE FROM results WHERE batch = ?", (batch_id,))

    def _counted(self, row: tuple[str, str | None, str]) -> Batch:
        batch = Batch(row[0], row[1], json.loads(row[2]))
        if batch.status in OPEN:
            where = "WHERE batch = ? GROUP BY good"
            counts = dict(self._state.execute(f"SELECT good, count(*) FROM results {where}", (batch.id,)))
            batch.shown["request_counts"] |= {"completed": counts.get(1, 0), "failed": counts.get(0, 0)}
        return batch
