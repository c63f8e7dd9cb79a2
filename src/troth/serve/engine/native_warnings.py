"""What XGrammar writes to the standard error stream, which it cannot be told to leave, in our log instead.

The stream is all of a process's: what others write there meanwhile comes out behind it as it is. Imports no torch.
"""

import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

log = logging.getLogger(__name__)
_LINE = re.compile(rb"\[[\d:]+\] \S+\.cc:\d+: \w+: (.*)\n?")
_STANDARD_ERROR = 2


class _Stream:
    """The stream while it is kept, by one or several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keepers = self._saved = 0
        self._kept: IO[bytes]

    def keep(self) -> None:
        with self._lock:
            if self._keepers == 0:
                self._saved = os.dup(_STANDARD_ERROR)
                self._kept = tempfile.TemporaryFile()  # noqa: SIM115 - closed where it is read
                os.dup2(self._kept.fileno(), _STANDARD_ERROR)
            self._keepers += 1

    def give_back(self) -> list[bytes]:
        """The lines, once nobody keeps it any more."""
        with self._lock:
            self._keepers -= 1
            if self._keepers:
                return []
            os.dup2(self._saved, _STANDARD_ERROR)
            os.close(self._saved)
            with self._kept:
                self._kept.seek(0)
                return self._kept.readlines()


_stream = _Stream()


@contextmanager
def logged() -> Iterator[None]:
    """Around what may write such warnings. Each is told once."""
    try:
        _stream.keep()
    except OSError:  # There is no such stream, and nothing to keep clean.
        yield
        return
    try:
        yield
    finally:
        warnings: dict[bytes, None] = {}
        for line in _stream.give_back():
            if said := _LINE.fullmatch(line):
                warnings[said[1]] = None
            else:
                os.write(_STANDARD_ERROR, line)
        for warning in warnings:
            log.warning("XGrammar: %s", warning.decode("utf-8", "replace"))
