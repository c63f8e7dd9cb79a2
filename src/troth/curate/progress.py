"""How far a stage is: each worker keeps a small file a part, whoever watches adds them up. It works wherever workers
share a folder with the one who watches, on one machine or on many."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType

from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.rows import write_whole

_EVERY, _LINE_EVERY = 0.5, 15.0
"""Seconds between two looks, and between two lines where there is no terminal."""


class Counter:
    """Counts the documents and bytes of a part while it is worked on; use as a context manager.

    The count stays when the part is done, so that the next stage knows how much lies before it.
    """

    def __init__(self, parts: Parts, part: int):
        self._file = parts.file(part, "count", "txt")
        self._documents = self._bytes = 0
        self._written = 0.0

    def count(self, documents: int, reached: int) -> None:
        """So many more documents, and bytes reached in all."""
        self._documents += documents
        self._bytes = reached
        now = time.monotonic()
        if now - self._written > _EVERY:
            self._write()
            self._written = now

    def documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The same documents, counted with the bytes of their text as they pass."""
        for document in documents:
            self.count(1, self._bytes + len(document.text))
            yield document

    def _write(self) -> None:
        write_whole(self._file, f"{self._documents} {self._bytes}")

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._write()


@dataclass
class Tally:
    """Documents and bytes of a stage so far, and its parts done; parts once done are not looked at again."""

    stage: Parts
    left: set[int]
    parts: int = 0
    documents: int = 0
    bytes: int = 0

    def look(self) -> tuple[int, int]:
        """Documents and bytes now, those of unfinished parts included."""
        documents = size = 0
        for part in tuple(self.left):
            done = self.stage.is_done(part)
            more = read_count(self.stage, part)
            if done:
                self.left.discard(part)
                self.parts += 1
                self.documents, self.bytes = self.documents + more[0], self.bytes + more[1]
            else:
                documents, size = documents + more[0], size + more[1]
        return self.documents + documents, self.bytes + size


def read_count(stage: Parts, part: int) -> tuple[int, int]:
    """Documents and bytes that a part has come to; zeros where it has not begun."""
    try:
        documents, size = stage.file(part, "count", "txt").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return 0, 0
    return int(documents), int(size)


class Progress:
    """What a person sees of a stage, on standard error: a live bar in a terminal, a line now and then elsewhere."""

    def __init__(self, title: str, stage: Parts, parts: int, total_bytes: int, shown: bool):
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self.title, self.parts, self.total, self.shown = title, parts, total_bytes, shown
        self.console = Console(stderr=True, highlight=False, quiet=not shown)
        columns = TextColumn("{task.description}"), BarColumn(8), TextColumn("{task.fields[state]}")
        self.bar = Bar(*columns, console=self.console, disable=not (shown and self.console.is_terminal))
        self.task = self.bar.add_task(title, total=1.0, state="starting")
        self.tally = Tally(stage, set(range(parts)))
        self.before = self.tally.look()
        self.begun = self.said = time.monotonic()
        self.ended = Event()
        self.thread = Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.ended.wait(_EVERY + len(self.tally.left) / 5000):
            state, share = self._state()
            self.bar.update(self.task, completed=share, state=state)
            if not self.console.is_terminal and time.monotonic() - self.said > _LINE_EVERY:
                self._say(state)

    def _state(self) -> tuple[str, float]:
        documents, size = self.tally.look()
        seconds = max(time.monotonic() - self.begun, 1e-3)
        rate = (documents - self.before[0]) / seconds, (size - self.before[1]) / seconds / 1e6
        # Both are shares of the whole; bytes are finer, where it is known how many there are.
        share = min(size / self.total, 1.0) if self.total else self.tally.parts / self.parts
        begun = self.before[1] / self.total if self.total else 0.0
        left = f"  {duration(seconds * (1 - share) / (share - begun))} left" if share > begun else ""
        told = f"part {self.tally.parts}/{self.parts}"
        if documents:
            told += f"  {documents:,} documents  {rate[0]:,.0f}/s  {rate[1]:,.1f} MB/s"
        return f"{told}{left}", share

    def _say(self, state: str) -> None:
        self.console.print(f"{self.title}  {state}", soft_wrap=True)
        self.said = time.monotonic()

    def __enter__(self) -> "Progress":
        self.bar.start()
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ended.set()
        self.thread.join()
        state, share = self._state()
        self.bar.update(self.task, completed=share, state=state)
        self.bar.stop()
        if not self.console.is_terminal and time.monotonic() - self.begun > 1:
            self._say(state)


def duration(seconds: float) -> str:
    """`3:05` minutes, `2 h 03` or `5 d 02 h`."""
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    if hours >= 48:
        return f"{hours // 24} d {hours % 24:02d} h"
    return f"{hours} h {minutes % 60:02d}" if hours else f"{minutes}:{int(seconds) % 60:02d}"
