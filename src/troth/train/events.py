"""Figures of a run as TensorBoard reads them: a file of records, each an event.

torch's SummaryWriter has a thread write them, whose traceback would stand above what a run says of a full disk.
"""

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class EventFile:
    """Appends to a file of its own in `folder`; what others there say of steps after `first_step` no longer counts.
    `write` and `close` raise OSError, as where the disk is full."""

    def __init__(self, folder: Path, first_step: int):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names.
        name = f"events.out.tfevents.{int(time.time()):010d}.{platform.node()}.{os.getpid()}"
        self.file = (folder / name).open("ab")
        self._event, self._records = Event, RecordWriter
        self._add(file_version="brain.Event:2")
        self._add(step=first_step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Record figures by their names."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._add(step=step, summary=Summary(value=values))
        self.file.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self.file.close()

    def _add(self, **content: Any) -> None:
        self._records(self.file).write(self._event(wall_time=time.time(), **content).SerializeToString())
