"""Batches read ahead in a background thread, so that the step after this one never waits for its tokens."""

import queue
import threading
from collections.abc import Iterable, Iterator

import torch

from troth.train.batches import Batch


class Prefetch:
    """Iterates over (inputs, targets, documents) of batches as int64 tensors [rows, time] on the CPU.

    They lie in pinned memory where `device` is a CUDA device, so that `.to(device, non_blocking=True)` copies beside
    computation. At most `depth` batches wait. What `batches` raises is raised here, after the batches before it. Use as
    a context manager, or call `close`.
    """

    def __init__(self, batches: Iterable[Batch], device: str = "cpu", depth: int = 2):
        self._batches = iter(batches)
        cuda = torch.device(device)
        self._pinned_for: int | None = None
        if cuda.type == "cuda":
            self._pinned_for = torch.cuda.current_device() if cuda.index is None else cuda.index
        self._ready: queue.Queue[tuple[torch.Tensor, ...] | BaseException] = queue.Queue(depth)
        self._closed = threading.Event()
        # A daemon, so that a program that ends by an error does not wait for it.
        self._thread = threading.Thread(target=self._read, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        return self

    def __next__(self) -> tuple[torch.Tensor, ...]:
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

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read(self) -> None:
        try:
            if self._pinned_for is not None:  # A thread begins with device 0, and pinning would open it.
                torch.cuda.set_device(self._pinned_for)
            while not self._closed.is_set():
                self._ready.put(self._tensors(next(self._batches)))
        except BaseException as end:
            self._ready.put(end)

    def _tensors(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        parts = batch.inputs, batch.targets, batch.documents
        tensors = tuple(torch.from_numpy(part).contiguous() for part in parts)
        return tuple(tensor.pin_memory() for tensor in tensors) if self._pinned_for is not None else tensors
