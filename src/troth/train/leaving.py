"""SIGTERM, by which Kubernetes, Slurm and torchrun tell a run that it has some seconds left."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def asked_to_leave() -> Iterator[Callable[[], bool]]:
    """What says whether SIGTERM has come. Within, the first one ends nothing; a second does what it did before."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # as Ray's workers are; signals are not theirs
        yield asked.is_set
        return

    def note(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGTERM, before)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
