"""Grok-2 as it was released (xai-org/grok-2): weights for eight ranks, `pytorch_model-00006-TP-003.safetensors` say.

Files that end in `-TP-common` hold whole tensors, the others each rank's part of every expert. How a tensor is cut
follows from what a rank of SGLang (models/grok.py) computes with its part: never across the model's own axis.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from troth.model.families.configs import read_config
from troth.model.families.weights import stored_shapes

_FILE = re.compile(r"(.+-TP-)(\d{3}|common)(\.safetensors)")
_BY_INPUTS = "o_proj.weight", "down_proj.weight", "w2.weight"
"""The weights of which a rank has some inputs; of all others it has some outputs."""


@dataclass(frozen=True)
class Grok2Shards:
    """A sharded release whose files agree with each other and with its config.json; no tensor is read yet.

    `data` is its config.json, `shapes` has the whole shape of each tensor, and `files` the one file that holds it, or
    the files of all ranks in their order.
    """

    data: Mapping[str, Any]
    shapes: Mapping[str, torch.Size]
    files: Mapping[str, tuple[Path, ...]]

    @property
    def parameters(self) -> int:
        return sum(shape.numel() for shape in self.shapes.values())

    def config(self) -> dict[str, Any]:
        """The release's config.json, and that the experts are whole now, which SGLang would not assume."""
        return {**self.data, "load_presharded_moe": False}

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and whole tensor of every weight, in the type it is stored in; one is held at a time.

        Raises ValueError naming file and tensor that cannot be read.
        """
        opened: dict[Path, Any] = {}
        for name, files in self.files.items():
            parts = [_tensor(opened, file, name) for file in files]
            yield name, parts[0] if len(parts) == 1 else torch.cat(parts, dim=_cut(name))


def open_grok_2(folder: Path) -> Grok2Shards:
    """The sharded release in `folder`. The head of each file is read; every rank must have its part of each tensor.

    Raises ValueError naming the file and tensor, or the key, that is missing or does not fit the others.
    """
    shapes = stored_shapes(read_config(folder))
    data = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    opened: dict[Path, Any] = {}
    places: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.iterdir()):
        if match := _FILE.fullmatch(file.name):
            for name in _file(opened, file).keys():  # noqa: SIM118 - not a dictionary
                place = places.setdefault(name, {})
                if place and (match[2] in place or "common" in {match[2], *place}):
                    raise ValueError(f"{file}: tensor {name} is in {next(iter(place.values())).name} as well")
                place[match[2]] = file
    ranks = {rank for place in places.values() for rank in place} - {"common"}
    ranks |= {f"{rank:03d}" for rank in range(max(map(int, ranks), default=-1))}
    files: dict[str, tuple[Path, ...]] = {}
    for name, shape in shapes.items():
        place = places.pop(name, {})
        if not place:
            raise ValueError(f"{folder}: tensor {name} is missing, though config.json asks for it")
        if "common" not in place and (lost := sorted(ranks - place.keys())):
            neighbour = min(place.values())
            file = neighbour.with_name(_FILE.sub(rf"\g<1>{lost[0]}\g<3>", neighbour.name))
            raise ValueError(f"{file}: tensor {name} is missing, or the file is")
        files[name] = tuple(place[rank] for rank in sorted(place))
        _check(opened, files[name], name, shape)
    if places:
        name = min(places)
        raise ValueError(f"{min(places[name].values())}: unexpected tensor {name}")
    return Grok2Shards(data, shapes, files)


def _check(opened: dict[Path, Any], files: tuple[Path, ...], name: str, shape: torch.Size) -> None:
    """Each file's part of a tensor has the shape that its size, and the number of parts, ask for, and one type."""
    expected, first = list(shape), None
    if len(files) > 1:
        if len(shape) < 2 or shape[_cut(name)] % len(files):
            raise ValueError(f"{files[0]}: tensor {name} of shape {expected} cannot be in {len(files)} equal parts")
        expected[_cut(name)] //= len(files)
    for file in files:
        head = _file(opened, file).get_slice(name)
        if list(head.get_shape()) != expected:
            told = f"; {len(files)} ranks share {list(shape)}" if len(files) > 1 else ""
            raise ValueError(f"{file}: tensor {name} has shape {list(head.get_shape())}, expected {expected}{told}")
        first = first or head.get_dtype()
        if head.get_dtype() != first:
            raise ValueError(f"{file}: tensor {name} is of type {head.get_dtype()}, rank 000 has {first}")


def _cut(name: str) -> int:
    """The axis along which ranks share a weight: outputs or inputs, whichever are not the model's."""
    return int(name.endswith(_BY_INPUTS))


def _tensor(opened: dict[Path, Any], file: Path, name: str) -> torch.Tensor:
    try:
        return _file(opened, file).get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{file}: tensor {name}: {error}") from error


def _file(opened: dict[Path, Any], path: Path) -> Any:
    if path not in opened:
        try:
            opened[path] = safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path}: {error}") from error
    return opened[path]
