"""The format of torch's Distributed Checkpoint (DCP): one file of tensors a rank, and `.metadata`, which says where
each piece of each tensor lies. To these comes the manifest, whose presence makes the checkpoint complete.

torch.distributed.checkpoint can read a folder by itself. Here `.metadata`, a pickle, is read by an unpickler that
knows the format's classes only, so that a forged one runs no code.
"""

import io
import json
import pickle
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import IO, Any, cast

import torch
from torch.distributed._shard._utils import narrow_tensor_by_index
from torch.distributed.checkpoint import (
    DefaultSavePlanner,
    LoadPlan,
    LoadPlanner,
    Metadata,
    SavePlan,
    SavePlanner,
    StorageReader,
    StorageWriter,
    metadata,
)
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future
from torch.serialization import _get_layout
from torch.utils.serialization import config

import troth
from troth.train.checkpoints.store import MANIFEST, File, Store

METADATA = ".metadata"


@dataclass(frozen=True)
class Written(WriteResult):
    """A piece of a tensor and the file that it went to."""

    file: File


class StagedPlanner(DefaultSavePlanner):
    """Plans by the shapes and layouts of the state, and takes the values from copies of the local parts."""

    def __init__(self, copies: dict[str, torch.Tensor]):
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.copies = copies

    def lookup_object(self, index: MetadataIndex) -> torch.Tensor:
        return self.copies[index.fqn]


class Writer(StorageWriter):
    """Writes one checkpoint into a folder of the store; all but the newest `keep` are removed when it is complete.

    `rejected` are the folders that a load found damaged: no more than leftovers, and forgotten when they are removed.
    """

    def __init__(self, store: Store, step: int, rank: int, world_size: int, keep: int, rejected: set[str]):
        self.store, self.folder, self.step = store, folder_of(step), step
        self.rank, self.world_size, self.keep, self.rejected = rank, world_size, keep, rejected

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing is kept from one checkpoint to the next."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """All is set up already."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return True

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """On the first rank, before any rank writes."""
        for folder, complete in self.store.folders().items():
            if not complete or folder in self.rejected:
                self.store.remove(folder)
            elif folder >= self.folder:
                raise ValueError(f"{folder} is there already; load it to go on from it, or save to another place")
        self.rejected.clear()
        self.store.make(self.folder)
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        done: Future[list[WriteResult]] = Future()
        done.set_result(self._write(plan, planner) if plan.items else [])
        return done

    def _write(self, plan: SavePlan, planner: SavePlanner) -> list[WriteResult]:
        name, places = f"__{self.rank}_0.distcp", []
        # The whole file has a checksum; the slower ones that torch adds to each tensor are left out.
        with self.store.create(f"{self.folder}/{name}") as stream, config.patch("save.compute_crc32", False):  # type: ignore[attr-defined]
            for item in plan.items:
                start = stream.size
                torch.save(planner.resolve_data(item), cast(IO[bytes], stream))
                places.append(_StorageInfo(name, start, stream.size - start))
        file = File(name, stream.size, stream.hash.hexdigest())
        return [
            Written(item.index, place.length, place, file) for item, place in zip(plan.items, places, strict=True)
        ]

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """On the first rank, when the files of all ranks are durable."""
        written = [result for results_of_rank in results for result in results_of_rank if isinstance(result, Written)]
        storage_data = {result.index: result.storage_data for result in written}
        with self.store.create(f"{self.folder}/{METADATA}") as stream:
            stream.write(pickle.dumps(replace(metadata, storage_data=storage_data, version="1.0.0")))
        files = [*{result.file: None for result in written}, File(METADATA, stream.size, stream.hash.hexdigest())]
        self.store.publish(f"{self.folder}/{MANIFEST}", write_manifest(self.step, self.world_size, files))
        for old in [folder for folder, complete in self.store.folders().items() if complete][: -self.keep]:
            self.store.remove(old)


class Reader(StorageReader):
    """Reads the pieces that a plan asks for from a folder of the store."""

    def __init__(self, store: Store, folder: str):
        self.store, self.folder = store, folder

    @cached_property
    def metadata(self) -> Metadata:
        """Where the tensors lie."""
        return _read_metadata(self.store.read(f"{self.folder}/{METADATA}"))

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing is kept from one checkpoint to the next."""

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """All is set up already."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return True

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        return self.metadata

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        files: dict[str, list[Any]] = {}
        for item in plan.items:
            place = self.metadata.storage_data[item.storage_index]
            files.setdefault(place.relative_path, []).append((place.offset, place.length, item))
        for name, items in files.items():
            with self.store.open(f"{self.folder}/{name}") as stream:
                for offset, length, item in sorted(items, key=lambda part: part[0]):
                    stream.seek(offset)
                    piece = torch.load(io.BytesIO(stream.read(length)), map_location="cpu", weights_only=True)
                    target = planner.resolve_tensor(item).detach()
                    target.copy_(narrow_tensor_by_index(piece, item.storage_offsets, item.lengths))
                    planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done


def folder_of(step: int) -> str:
    """The name of a checkpoint's folder; names sort as their steps do."""
    return f"step-{step:09d}"


def write_manifest(step: int, world_size: int, files: list[File]) -> bytes:
    """What the checkpoint consists of, as JSON, with a checksum over itself."""
    return _sealed({
        "step": step, "world_size": world_size, "troth": troth.__version__, "torch": torch.__version__,
        "files": [asdict(file) for file in files],
    })  # fmt: skip


def read_manifest(data: bytes) -> list[File]:
    """The files of a checkpoint. Raises ValueError where the manifest is not as it was written."""
    body = json.loads(data)
    if not isinstance(body, dict) or body.pop("checksum", None) is None or _sealed(body) != data:
        raise ValueError("its checksum differs")
    return [File(**file) for file in body["files"]]


def _sealed(body: dict[str, Any]) -> bytes:
    from xxhash import xxh3_128

    return json.dumps(body | {"checksum": xxh3_128(json.dumps(body).encode()).hexdigest()}, indent=1).encode()


class _MetadataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CLASSES or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise ValueError(f"{METADATA} asks for {module}.{name}, which is no part of its format")


_CLASSES = {
    (part.__module__, part.__qualname__)
    for part in (
        Metadata, MetadataIndex, _StorageInfo, metadata.ChunkStorageMetadata, metadata.TensorProperties,
        metadata.TensorStorageMetadata, metadata._MEM_FORMAT_ENCODING, torch.Size, _get_layout,
    )
}  # fmt: skip


def _read_metadata(data: bytes) -> Metadata:
    """Read `.metadata`. Raises ValueError where it holds anything but the format's own classes."""
    read = _MetadataUnpickler(io.BytesIO(data)).load()
    if not isinstance(read, Metadata):
        raise ValueError(f"{METADATA} holds no metadata")
    return read
