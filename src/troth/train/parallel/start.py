"""Weights from a Hugging Face folder: each rank reads what it holds of them, one tensor at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.families.configs import FAMILIES, read_config
from troth.model.families.folder import TensorFolder
from troth.model.families.weights import read_tensors, stored_shapes, stores_experts_apart
from troth.model.mtp import FOLDER
from troth.train.parallel.network import Network
from troth.train.weights import local


@torch.no_grad()
def start_from(folder: Path, network: Network) -> None:
    """Fill a network from a folder of its own shape, and its multi-token prediction from the modules beside it there,
    as many depths as both have. Raises ValueError as `checked` does, and where a number is none or endless."""
    config = network.decoders[0].config
    files = checked(folder, config)
    for decoder in network.decoders:
        for name, tensor in decoder.state_dict().items():
            if ".lora_" in name or (config.tie_word_embeddings and name == "lm_head.weight"):
                continue
            if isinstance(tensor, DTensor) and tensor.dim() > 2 and stores_experts_apart(config):
                _read_experts(files, config, name, tensor)
            else:
                _fill(name, tensor, lambda name, whole: read_tensors(files, config, [(name, whole)]))
            if not local(tensor).isfinite().all():
                raise ValueError(f"{folder}: {name} has numbers that are not finite")
    if network.mtp is not None and (folder / FOLDER).exists():
        ahead = TensorFolder(folder / FOLDER)
        depths = {name.split(".")[1] for name in ahead.place}
        for name, tensor in network.mtp.state_dict().items():
            if name.split(".")[1] in depths:
                _fill(name, tensor, lambda name, whole: ahead.read([(name, whole, whole.shape)]))


def checked(folder: Path, config: ModelConfig) -> TensorFolder:
    """The tensors of a folder of this shape, of which none is read yet.

    Raises ValueError naming the first key in which the shapes differ, or the tensor that is missing or left over.
    """
    theirs = read_config(folder)
    for key in type(config).model_fields:
        value, ours = getattr(theirs, key), getattr(config, key)
        if value != ours and key not in ("max_position_embeddings", "yarn"):
            raise ValueError(f"{folder}: has {key}={value!r}, and the system's model has {ours!r}")
    files = TensorFolder(folder)
    files.check(stored_shapes(config), FAMILIES[config.model_type].unused(config))
    return files


def _fill(name: str, tensor: torch.Tensor, read: Callable[[str, torch.Tensor], object]) -> None:
    """Fill what this rank holds of a tensor, given what fills a whole one of this name."""
    if not isinstance(tensor, DTensor):
        read(name, tensor)
        return
    whole = torch.empty(tensor.shape, dtype=tensor.dtype)
    read(name, whole)
    whole = whole.to(tensor.device)
    part = distribute_tensor(whole, tensor.device_mesh, tensor.placements, src_data_rank=None)
    tensor.to_local().copy_(part.to_local())


def folder_tensors(folder: Path, config: ModelConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """A network's tensors in a folder of this shape, by their names in the network, in float32, one after another."""
    files = TensorFolder(folder)
    with torch.device("meta"):
        expected = Decoder(config).state_dict()
    for name, like in expected.items():
        if not (config.tie_word_embeddings and name == "lm_head.weight"):
            tensor = torch.empty_like(like, device="cpu")
            read_tensors(files, config, [(name, tensor)])
            yield name, tensor


def _read_experts(files: TensorFolder, config: ModelConfig, name: str, tensor: DTensor) -> None:
    """Only the experts of which this rank has a part."""
    local = tensor.to_local()
    _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    whole = torch.empty(len(local), *tensor.shape[1:], dtype=tensor.dtype)
    read_tensors(files, config, [(name, whole)], first_expert=offset[0])
    place = tuple(slice(start, start + size) for start, size in zip(offset[1:], local.shape[1:], strict=True))
    local.copy_(whole[(slice(None), *place)])
