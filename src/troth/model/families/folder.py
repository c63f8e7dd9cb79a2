"""Tensors of a Hugging Face folder: model.safetensors, or the shards that model.safetensors.index.json lists.

Each tensor is read when it is asked for and straight to its device, so that loading needs the weights and one tensor
more; writing holds one shard.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from troth.model.families.family import FP8_BLOCK
from troth.model.families.quantised import from_fp8, from_mxfp4

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SIDES = "", "_scale_inv", "_blocks", "_scales"
"""What a tensor may be called besides its name: numbers in 8 or 4 bits, and what they are scaled by."""
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
SHARD_BYTES = 5 * 10**9
"""The size that transformers splits at."""


class TensorFolder:
    """The tensors of a folder by their names; files are opened once, and nothing is read before it is asked for.

    Raises ValueError naming the file, or the tensor, that is missing, unreadable or not as expected.
    """

    def __init__(self, folder: Path, device: str = "cpu"):
        self._device = device
        self._open: dict[Path, Any] = {}
        index = folder / _INDEX
        if index.exists():
            self.place = {name: folder / file for name, file in _read_index(index).items()}
            for path in sorted(set(self.place.values())):
                held = set(self._file(path).keys())
                if lost := sorted(name for name, where in self.place.items() if where == path and name not in held):
                    raise ValueError(f"{path}: tensor {lost[0]} is missing, though {_INDEX} places it there")
        else:
            path = folder / _WHOLE
            if not path.exists():
                found = ", ".join(sorted(file.name for file in folder.glob("*.safetensors"))[:3]) or "no safetensors"
                raise ValueError(f"{path}: no such file, nor {_INDEX} beside it; in the folder: {found}")
            self.place = dict.fromkeys(self._file(path).keys(), path)

    @property
    def in_mxfp4(self) -> bool:
        """Whether experts are 4-bit floats, as gpt-oss was released."""
        return any(name.endswith("_blocks") for name in self.place)

    def dtype_of(self, suffix: str) -> str | None:
        """The dtype of the first tensor whose name ends so, as torch calls it, of floats of 16 bits and more."""
        for name, path in self.place.items():
            if name.endswith(suffix):
                return _DTYPES.get(self._file(path).get_slice(name).get_dtype())
        return None

    def check(self, shapes: Mapping[str, torch.Size], unused: str | None = None) -> None:
        """Raise ValueError naming a tensor that is missing, or left over though its name does not begin with `unused`,
        before any is read."""
        left = dict(self.place)
        for name, shape in shapes.items():
            found = [name + side for side in _SIDES if name + side in left]
            if not found:
                raise self._missing(name, shape)
            for part in found:
                del left[part]
        _refuse_left(left, unused)

    def fill(self, targets: Iterable[tuple[str, torch.Tensor, torch.Size]], unused: str | None = None) -> None:
        """`read` them all; nothing may be left in the folder but tensors whose names begin with `unused`."""
        _refuse_left(self.read(targets), unused)

    def read(self, targets: Iterable[tuple[str, torch.Tensor, torch.Size]]) -> dict[str, Path]:
        """Copy the tensor of each name and shape into its target, cast to the target's dtype, whose shape may split
        dimensions further; return the places of the tensors that were not asked for.

        8-bit floats are scaled and 4-bit ones widened on their way (see `quantised`).
        """
        left = dict(self.place)
        for name, target, shape in targets:
            if f"{name}_blocks" in left:
                self._fill_from_blocks(name, target, shape, left)
                continue
            value = self._take(name, shape, left)
            if value.is_floating_point() != target.is_floating_point():
                kind = str(value.dtype).removeprefix("torch.")
                told = f"is of type {kind}, expected floating point numbers"
                raise ValueError(f"{self.place[name]}: tensor {name} {told}")
            if value.dtype == torch.float8_e4m3fn:
                grid = torch.Size(-(-size // FP8_BLOCK) for size in shape)
                value = from_fp8(value, self._take(f"{name}_scale_inv", grid, left))
            target.copy_(value.view(target.shape))
        return left

    def _fill_from_blocks(self, name: str, target: torch.Tensor, shape: torch.Size, left: dict[str, Path]) -> None:
        """Widen 4-bit weights [experts, out, in / 32, 16] of a target [experts, in, out], expert by expert."""
        experts, inner, outer = shape
        runs = torch.Size((experts, outer, inner // 32))
        blocks = self._take(f"{name}_blocks", torch.Size((*runs, 16)), left)
        scales = self._take(f"{name}_scales", runs, left)
        for part, block, scale in zip(target, blocks, scales, strict=True):
            part.copy_(from_mxfp4(block, scale).T.reshape(part.shape))

    def _take(self, name: str, shape: torch.Size, left: dict[str, Path]) -> torch.Tensor:
        """Read one tensor, checked to be of a shape, and cross it off what is left."""
        path = left.pop(name, None)
        if path is None:
            raise self._missing(name, shape)
        try:
            value: torch.Tensor = self._file(path).get_tensor(name)
        except SafetensorError as error:
            raise ValueError(f"{path}: tensor {name}: {error}") from error
        if value.shape != shape:
            raise ValueError(f"{path}: tensor {name} has shape {list(value.shape)}, expected {list(shape)}")
        return value

    def _missing(self, name: str, shape: torch.Size) -> ValueError:
        where = next(iter(self.place.values()), _WHOLE)
        return ValueError(f"{where}: tensor {name} is missing; expected one of shape {list(shape)}")

    def _file(self, path: Path) -> Any:
        if path not in self._open:
            try:
                self._open[path] = safe_open(path, framework="pt", device=self._device)
            except (OSError, SafetensorError) as error:
                raise ValueError(f"{path}: {error}") from error
        return self._open[path]


def _refuse_left(left: Mapping[str, Path], unused: str | None) -> None:
    extra = [name for name in left if unused is None or not name.startswith(unused)]
    if extra:
        raise ValueError(f"{left[min(extra)]}: unexpected tensor {min(extra)}")


def save_tensor_file(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError naming it, as where the disk is full."""
    try:
        save_file(tensors, path, metadata or {"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"{path}: cannot be written ({error})") from error


def write_tensors(folder: Path, tensors: Iterable[tuple[str, torch.Tensor]], shard_bytes: int = SHARD_BYTES) -> None:
    """Write tensors as one file or, where they exceed `shard_bytes`, as shards with an index; no tensor is split."""
    shards: list[list[str]] = []
    held: dict[str, torch.Tensor] = {}
    size = whole = 0

    def flush() -> None:
        save_tensor_file(held, folder / f"shard-{len(shards):05d}.partial")
        shards.append(list(held))
        held.clear()

    for name, tensor in tensors:
        if held and size + tensor.nbytes > shard_bytes:
            flush()
            size = 0
        held[name] = tensor.contiguous()
        size, whole = size + tensor.nbytes, whole + tensor.nbytes
    flush()
    place: dict[str, str] = {}
    for number, names in enumerate(shards):
        file = _WHOLE if len(shards) == 1 else f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"shard-{number:05d}.partial").replace(folder / file)
        place |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": whole}, "weight_map": place}
        (folder / _INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _read_index(path: Path) -> dict[str, str]:
    try:
        place = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not an index of shards ({error!r})") from error
    if not isinstance(place, dict) or not all(file == Path(str(file)).name for file in place.values()):
        raise ValueError(f"{path}: weight_map does not give the file, in the same folder, of each tensor")
    return place
