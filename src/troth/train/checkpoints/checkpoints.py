"""Saving the state of a run beside its training, and finding the newest state that is whole.

A checkpoint counts when its manifest is there, which the first rank writes last of all; until then, and again while
it is removed, it is a leftover. So a run may be killed at any moment.
"""

import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from troth.train.checkpoints.distcp import Reader, StagedPlanner, Writer, folder_of, read_manifest
from troth.train.checkpoints.store import MANIFEST, Store

T = TypeVar("T")
State = Mapping[str, torch.Tensor]
"""Names and tensors. Names are unique over all ranks, and ranks may have different ones. A DTensor is saved by the
ranks that hold its parts; a plain tensor is the same on all ranks that have it, and one of them saves it."""

_PATIENCE = timedelta(hours=2)
"""How long a rank that has written its part waits for the slowest. One that has died is mostly noticed at once; where
gloo misses it, it is the launcher that ends the others."""


def complete_steps(url: str | Path) -> list[int]:
    """After how many steps the checkpoints there were made, whose manifests are there. Raises ValueError where the URL
    is of no known kind, and OSError where it cannot be read."""
    return [_step_of(folder) for folder, complete in Store(url).folders().items() if complete]


class Checkpoints:
    """The newest `keep` checkpoints at `url`: a folder that all ranks see, or a URL that fsspec knows.

    To be made by all ranks at once where torch.distributed runs, and its methods are called by all ranks. Raises
    ValueError where the URL is of no known kind.
    """

    def __init__(self, url: str | Path, keep: int):
        if keep < 1:
            raise ValueError(f"keep={keep}: at least one checkpoint must be kept")
        self.store, self.keep = Store(url), keep
        # A group of its own: the thread that writes must not come between the collectives of training.
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE) if dist.is_initialized() else None
        self._rank = dist.get_rank(self._group) if self._group else 0
        self._world_size = dist.get_world_size(self._group) if self._group else 1
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._pending: Future[None] | None = None
        self._copies: dict[str, torch.Tensor] = {}
        self._rejected: set[str] = set()
        if not self._group:
            # Set for good, since the thread that writes cannot set it for itself alone.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")

    def save(self, step: int, state: State) -> None:
        """Copy the state aside and return; it is written while training goes on.

        Waits for the save before. Raises what `wait` raises; then nothing was saved now.
        """
        self.wait()
        self._stage(state)
        self._pending = self._thread.submit(self._write, step, dict(state))

    def wait(self) -> None:
        """Wait until the last save is complete.

        Raises OSError, or ValueError where that could not succeed at any time, in one line naming the place if it
        failed, on all ranks. The checkpoints from before are untouched then, and the next save removes what is left
        of the failed one.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except (Exception, CheckpointException) as error:
            raise _told(error, f"{self.store.url}: a checkpoint could not be saved") from error

    def close(self) -> None:
        """Wait for the last save and end; raises as `wait` does."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._copies.clear()
            if self._group:
                dist.destroy_process_group(self._group)
                self._group = None

    def load(self, state: State, say: Callable[[str], None], step: int | None = None) -> int:
        """Fill the tensors in place from the newest whole checkpoint and return its step, 0 where there is none; or
        from that of `step`, which must be there.

        The layout and number of the ranks may be others than those that saved. Each rank reads its share of the files
        to compare checksums before any tensor is touched; the first rank tells `say` which checkpoints are passed over
        and why. Names that the state lacks are left unread. Raises ValueError where there are checkpoints but none is
        whole, or where the state's names, shapes or types are not those of the checkpoint; OSError where the place
        cannot be read.
        """
        self.wait()
        folders = self._all(lambda: self.store.folders() if self._rank == 0 else {}, self.store.url)[0]
        if step is not None:
            if folder_of(step) not in folders:
                there = ", ".join(str(_step_of(folder)) for folder in folders) or "none"
                raise ValueError(f"{self.store.url}: has no checkpoint of step {step}; there are: {there}")
            folders = {folder_of(step): True}
        for folder, complete in sorted(folders.items(), reverse=True):
            complaints = self._all(partial(self._complaint, folder), f"{self.store.url}/{folder}")
            complaint = next((complaint for complaint in complaints if complaint), None)
            if complaint is None:
                self._read(folder, state)
                return _step_of(folder)
            self._rejected.add(folder)
            if self._rank == 0:
                more = "" if complete else ", so it was never finished"
                say(f"{self.store.url}/{folder}: {complaint}{more}; it is passed over")
        if any(folders.values()):
            mend = "delete them to begin anew" if step is None else "name another step"
            raise ValueError(f"{self.store.url}: none of its checkpoints is whole; {mend}")
        return 0

    def _stage(self, state: State) -> None:
        """Copy this rank's parts to the CPU, into the same memory each time."""
        copies = {}
        for name, tensor in state.items():
            local = _local(tensor)
            copy = self._copies.get(name)
            if copy is None or copy.shape != local.shape or copy.dtype != local.dtype:
                copy = torch.empty(local.shape, dtype=local.dtype, device="cpu", pin_memory=local.is_cuda)
            copies[name] = copy.copy_(local, non_blocking=True)
        if any(tensor.is_cuda for tensor in state.values()):
            torch.cuda.synchronize()
        self._copies = copies

    def _write(self, step: int, state: dict[str, torch.Tensor]) -> None:
        """In the thread that writes."""
        writer = Writer(self.store, step, self._rank, self._world_size, self.keep, self._rejected)
        planner = StagedPlanner(self._copies)
        alone = self._group is None
        dcp.save(state, storage_writer=writer, planner=planner, process_group=self._group, no_dist=alone)

    def _complaint(self, folder: str) -> str | None:
        """What is wrong with this rank's share of a checkpoint's files, if anything."""
        try:
            files = read_manifest(self.store.read(f"{folder}/{MANIFEST}"))
        except FileNotFoundError:
            return f"{MANIFEST} is missing"
        except ValueError as error:
            return f"{MANIFEST} is damaged ({error})"
        wrong = (self.store.complaint(folder, file) for file in files[self._rank :: self._world_size])
        return next((complaint for complaint in wrong if complaint), None)

    def _read(self, folder: str, state: State) -> None:
        place = f"{self.store.url}/{folder}"
        reader, alone = Reader(self.store, folder), self._group is None
        self._all(lambda: _compare(state, reader.metadata), place)
        planner = dcp.DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        try:
            dcp.load(dict(state), storage_reader=reader, planner=planner, process_group=self._group, no_dist=alone)
        except CheckpointException as error:
            raise _told(error, place) from error

    def _all(self, do: Callable[[], T], place: str) -> list[T]:
        """What `do` gives on each rank. Where it raises on any, the first of their errors is raised on all."""
        results: list[T | Exception] = [None] * self._world_size  # type: ignore[list-item]
        try:
            result: T | Exception = do()
        except (OSError, ValueError) as error:
            result = _told(error, place)
        if self._group:
            dist.all_gather_object(results, result, group=self._group)
        else:
            results = [result]
        for result in results:
            if isinstance(result, Exception):
                raise result
        return cast(list[T], results)


def _step_of(folder: str) -> int:
    return int(folder.removeprefix("step-"))


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this rank holds."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def _compare(state: State, metadata: dcp.Metadata) -> None:
    for name, tensor in state.items():
        saved = metadata.state_dict_metadata.get(name)
        if not isinstance(saved, TensorStorageMetadata):
            raise ValueError(f"has no tensor {name}")
        for what, theirs, ours in (
            ("shape", tuple(saved.size), tuple(tensor.shape)),
            ("type", saved.properties.dtype, tensor.dtype),
        ):
            if theirs != ours:
                raise ValueError(f"{name} has {what} {theirs}, not {ours}")


def _told(error: BaseException, place: str) -> OSError | ValueError:
    """An error as one line that names the place, and the rank where there is one."""
    if isinstance(error, CheckpointException):
        rank, (error, _) = min(error.failures.items())
        place = f"{place} on rank {rank}"
    lines = str(error).strip().splitlines()
    text = f"{place}: {lines[0] if lines else type(error).__name__}"
    return ValueError(text) if isinstance(error, ValueError) else OSError(text)
