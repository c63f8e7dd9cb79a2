"""How far a stage is: each worker keeps a small file a part, whoever watches adds them up. It works wherever workers
share a folder with the one who watches, on one machine or on many."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

from troth.curate.document import Document
from troth.curate.parts import Parts

_EVERY = 0.5


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
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".partial")
        partial.write_text(f"{self._documents} {self._bytes}")
        os.replace(partial, self._file)

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._write()


@dataclass(frozen=True)
class Counts:
    """Documents and bytes of a stage so far, and its parts done."""

    parts: int = 0
    documents: int = 0
    bytes: int = 0


def counts(parts: Parts, count: int) -> Counts:
    """What the `count` parts of a stage have come to."""
    documents = size = done = 0
    for part in range(count):
        done += parts.is_done(part)
        try:
            told = parts.file(part, "count", "txt").read_text().split()
            documents, size = documents + int(told[0]), size + int(told[1])
        except (OSError, ValueError, IndexError):
            continue
    return Counts(done, documents, size)
