"""Answers the requests of batches, one batch after the other, in the gaps that other requests leave."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from troth.serve.api.batch_input import Line, problem, problems, read_lines
from troth.serve.api.batch_store import Batch, BatchStore
from troth.serve.api.drain import Drain
from troth.serve.api.file_store import FileStore
from troth.serve.api.inside import Ask, Inside
from troth.serve.api.served import new_id
from troth.serve.engine.thread import EngineThread
from troth.system.lock import held

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_GAP_SECONDS = 0.05
_DISK_SECONDS = 2.0
# Others have 0, and lower goes first.
_PRIORITY = 100


class BatchRunner:
    """Takes up open batches, oldest first, also those that an earlier process left.

    At most `together` lines are at work at once, behind all other requests, and none is begun while anybody waits. Of
    several processes with the same folder one answers batches; another goes on when that ends. Where the disk is full
    it waits for room. A line has at most `most_bytes`.
    """

    def __init__(
        self, files: FileStore, batches: BatchStore, ask: Ask, engine: EngineThread, drain: Drain, together: int,
        most_bytes: int,
    ):  # fmt: skip
        self._files = files
        self._batches = batches
        self._ask = ask
        self._engine = engine
        self._drain = drain
        self._together = together
        self._most_bytes = most_bytes

    async def run(self) -> None:
        """Work until cancelled, or until the server is to end."""
        while not self._drain.begun:
            try:
                with held(self._files.folder, "answering batches from", patience=0):
                    await self._work()
            except (ValueError, OSError, sqlite3.Error):  # Another process has the folder, or its disk fails.
                await asyncio.sleep(_LOOK_SECONDS)

    async def _work(self) -> None:
        while not self._drain.begun:
            batch = self._batches.oldest_open()
            if batch is None:
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            try:
                await self._go_on(batch)
            except* (OSError, sqlite3.Error) as errors:
                log.warning("batch %s waits for its disk: %s", batch.id, errors.exceptions[0])
                await asyncio.sleep(_DISK_SECONDS)
            except* Exception:
                log.exception("batch %s failed", batch.id)
                await self._fail(batch, [problem("server_error", "the server could not go on with this batch")])

    async def _go_on(self, batch: Batch) -> None:
        """Take a batch as far as it goes."""
        path = self._files.path(batch.shown["input_file_id"])
        if batch.status in ("validating", "in_progress") and not path.is_file():
            await self._fail(batch, [problem("file_not_found", "the input file is no longer there")])
            return
        if batch.status == "validating":
            total, wrong = await asyncio.to_thread(problems, path, batch.shown["endpoint"], self._most_bytes)
            # It may have been cancelled meanwhile.
            if self._batches.status(batch.id) == "cancelling":
                return
            if wrong:
                await self._fail(batch, wrong)
                return
            counts = {"total": total, "completed": 0, "failed": 0}
            batch = self._batches.change(batch, "in_progress", request_counts=counts)
        if batch.status == "in_progress":
            await self._answer(batch, path)
            if self._drain.begun:
                return
        batch = self._current(batch)
        if batch.status == "cancelling":
            await self._finish(batch, "cancelled")
        else:
            ended = "expired" if self._late(batch) else "completed"
            await self._finish(self._batches.change(batch, "finalizing"), ended)

    async def _answer(self, batch: Batch, path: Path) -> None:
        """Answer the lines that have no result, until all have one, the batch is cancelled or its time is up."""
        done = self._batches.answered(batch.id)
        left = (line for line in self._lines(batch, path) if line.number not in done)

        async def all_lines() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._together):
                    group.create_task(self._answer_some(batch, left))

        answering = asyncio.create_task(all_lines())
        try:
            while not answering.done():
                await asyncio.wait([answering], timeout=_LOOK_SECONDS)
                if self._batches.status(batch.id) == "cancelling":
                    answering.cancel()
        finally:
            answering.cancel()
        if not answering.cancelled():
            answering.result()

    async def _answer_some(self, batch: Batch, left: Iterator[Line]) -> None:
        while not (self._drain.begun or self._late(batch)):
            if self._engine.stats.waiting:
                await asyncio.sleep(_GAP_SECONDS)
                continue
            line = next(left, None)
            if line is None:
                return
            inside = Inside(batch.holder, _PRIORITY)
            answer = await self._ask(batch.shown["endpoint"], line.body, inside)
            # A server that is ending or has failed: the line is for the next one.
            while answer.status == 503:
                if self._drain.begun:
                    return
                await asyncio.sleep(_LOOK_SECONDS)
                answer = await self._ask(batch.shown["endpoint"], line.body, inside)
            response = {"status_code": answer.status, "request_id": answer.id, "body": answer.body}
            result = _result(line.custom_id, response, None)
            self._batches.add_result(batch.id, line.number, answer.status == 200, result)

    async def _fail(self, batch: Batch, wrong: list[dict[str, Any]]) -> None:
        await self._finish(batch, "failed", errors={"object": "list", "data": wrong})

    async def _finish(self, batch: Batch, status: str, **more: Any) -> None:
        """Write the results to files, those of lines without an answer too where time ran out, and end the batch."""
        if status == "expired":
            done = self._batches.answered(batch.id)
            error = {"code": "batch_expired", "message": "the batch's time was up before this request was answered"}
            path = self._files.path(batch.shown["input_file_id"])
            for line in self._lines(batch, path):
                if line.number not in done:
                    self._batches.add_result(batch.id, line.number, False, _result(line.custom_id, None, error))
        written = {
            "output_file_id": await asyncio.to_thread(self._write, batch, True),
            "error_file_id": await asyncio.to_thread(self._write, batch, False),
        }
        counts = self._current(batch).shown["request_counts"]
        self._batches.change(batch, status, request_counts=counts, **written, **more)
        self._batches.forget_results(batch.id)

    def _write(self, batch: Batch, good: bool) -> str | None:
        """The id of a file with the good or the failed results; None where there are none."""
        results = self._batches.results(batch.id, good)
        first = next(results, None)
        if first is None:
            return None

        def fill(path: Path) -> None:
            with path.open("w", encoding="utf-8") as file:
                file.write(first + "\n")
                file.writelines(result + "\n" for result in results)

        name = f"{batch.id}_{'output' if good else 'error'}.jsonl"
        after = batch.shown.get("output_expires_after") or {}
        return self._files.write(fill, name, "batch_output", batch.holder, after.get("seconds")).id

    def _lines(self, batch: Batch, path: Path) -> Iterator[Line]:
        return read_lines(path, batch.shown["endpoint"], self._most_bytes)

    def _current(self, batch: Batch) -> Batch:
        current = self._batches.get(batch.id)
        assert current is not None
        return current

    def _late(self, batch: Batch) -> bool:
        return time.time() > batch.shown["expires_at"]


def _result(custom_id: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> dict[str, Any]:
    return {"id": new_id("batch_req"), "custom_id": custom_id, "response": response, "error": error}
