"""Batches read ahead in a background thread, so that the step after this one never waits for its tokens."""

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np
import torch

from troth.train.batches import Batch

AnyBatch = TypeVar("AnyBatch", bound=Batch)


class Prefetch(Generic[AnyBatch]):
    """Iterates over batches, of which at most `depth` wait.

    Their arrays lie in pinned memory where `device` is a CUDA device, so that
    `torch.from_numpy(batch.inputs).to(device, non_blocking=True)` copies beside computation. What `batches` raises is
    raised here, after the batches before it. Use as a context manager, or call `close`.
    """

    def __init__(self, batches: Iterable[AnyBatch], device: str | torch.device = "cpu", depth: int = 2):
        self._batches = iter(batches)
        cuda = torch.device(device)
        self._pinned_for: int | None = None
        if cuda.type == "cuda":
            self._pinned_for = torch.cuda.current_device() if cuda.index is None else cuda.index
        self._ready: queue.Queue[AnyBatch | BaseException] = queue.Queue(depth)
        self._closed = threading.Event()
        # A daemon, so that a program that ends by an error does not wait for it.
        self._thread = threading.Thread(target=self._read, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[AnyBatch]:
        return self

    def __next__(self) -> AnyBatch:
        if self._closed.is_set():
            raise StopIteration
        found = self._ready.get()
        if isinstance(found, BaseException):
            self.close()
            raise found
        return found

    def close(self) -> None:
        """Stop reading and wait until the thread has ended."""
        self._closed.set()
        while self._thread.is_alive():
            try:
                self._ready.get_nowait()  # The thread may wait for room.
            except queue.Empty:
                self._thread.join(0.01)

    def __enter__(self) -> "Prefetch[AnyBatch]":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read(self) -> None:
        try:
            if self._pinned_for is not None:  # A thread begins with device 0, and pinning would open it.
                torch.cuda.set_device(self._pinned_for)
            while not self._closed.is_set():
                self._ready.put(self._placed(next(self._batches)))
        except BaseException as end:
            self._ready.put(end)

    def _placed(self, batch: AnyBatch) -> AnyBatch:
        if self._pinned_for is None:
            return batch
        return replace(
            batch, inputs=_pinned(batch.inputs), targets=_pinned(batch.targets), documents=_pinned(batch.documents)
        )


def _pinned(part: np.ndarray) -> np.ndarray:
    """A copy that keeps its pinned tensor alive."""
    return torch.from_numpy(np.ascontiguousarray(part)).pin_memory().numpy()
