"""First weights. Each matrix has its own random numbers, which follow from the seed and its name alone: however a
network is spread over ranks, each can fill the part it holds, and all hold the same network."""

import hashlib
from typing import TypeVar

import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from troth.model.decoder import Decoder
from troth.model.mtp import MTP

_Part = TypeVar("_Part", bound=Decoder | MTP)


@torch.no_grad()
def initialise(model: _Part, seed: int) -> _Part:
    """Fill every matrix with N(0, initializer_range^2); biases, sinks and routers start at zero, so that all experts
    begin alike, norms and buffers at one and zero. Weights may be whole or distributed."""
    std = model.config.initializer_range
    for name, weight in model.named_parameters():
        if name.endswith(("bias", "sinks", "router.gate.weight")):
            weight.zero_()
        elif weight.dim() == 1:
            weight.fill_(1)
        else:
            fill(weight, std, f"{seed} {name}")
    for moe in model.moe_layers():
        moe.expert_bias.zero_()
        moe.load_E.zero_()
    return model


@torch.no_grad()
def fill(weight: torch.Tensor, std: float, name: str) -> None:
    """Fill a matrix, or a stack of one an expert, whole or distributed, with N(0, std^2) as `name` decides."""
    if weight.dim() == 2:
        _fill(weight, _drawn(weight.shape, weight, std, name))
    else:
        _fill_experts(weight, std, name)


def _drawn(shape: torch.Size, like: torch.Tensor, std: float, name: str) -> torch.Tensor:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little", signed=True)
    random = torch.Generator(like.device).manual_seed(number)
    return torch.empty(shape, dtype=like.dtype, device=like.device).normal_(0, std, generator=random)


def _fill(weight: torch.Tensor, whole: torch.Tensor) -> None:
    if isinstance(weight, DTensor):
        part = distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)
        weight.to_local().copy_(part.to_local())
    else:
        weight.copy_(whole)


def _fill_experts(weight: torch.Tensor, std: float, name: str) -> None:
    """Draw only the experts that this rank has a part of."""
    if not isinstance(weight, DTensor):
        for e, expert in enumerate(weight):
            expert.copy_(_drawn(expert.shape, weight, std, f"{name} {e}"))
        return
    local = weight.to_local()
    _, offset = compute_local_shape_and_global_offset(weight.shape, weight.device_mesh, weight.placements)
    place = tuple(slice(start, start + size) for start, size in zip(offset[1:], local.shape[1:], strict=True))
    for e, expert in enumerate(local, offset[0]):
        expert.copy_(_drawn(weight.shape[1:], weight, std, f"{name} {e}")[place])
