"""Tensor parallelism with the sequence shared out between (Megatron-LM: Shoeybi et al., 1909.08053, section 3, and
Korthikanti et al., 2205.05198, section 4.2.2).

Ranks hold some heads, and some rows or columns of dense feed-forwards, each. Between these each rank has a share of
the times; before them the shares are gathered, behind them the ranks' sums are added up and shared out again. All
else (norms, routers, latents, sinks) is computed on a share or for some heads, and its gradients are summed by FSDP,
whose group then includes these ranks. Biases and adapters that all these ranks hold whole are summed by `sums`.
"""

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import Placement
from torch.nn.functional import linear

from troth.model.attention import Attend, Attention
from troth.model.decoder import DecoderLayer
from troth.model.experts import here
from troth.model.lora import LoRALinear
from troth.model.moe import FeedForward
from troth.model.norm import RMSNorm
from troth.model.scores import Scores
from troth.train.float8 import product_of
from troth.train.parallel.collectives import gather, sum_and_share, sum_over

_BY_ROWS = "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "q_b_proj", "kv_b_proj"
_BY_COLUMNS = "o_proj", "down_proj"
_OF_ROWS: dict[str, Placement] = {"weight": Shard(0), "bias": Shard(0), "lora_A": Replicate(), "lora_B": Shard(0)}
_OF_COLUMNS: dict[str, Placement] = {"weight": Shard(1), "bias": Replicate(), "lora_A": Shard(1), "lora_B": Replicate()}
_TIME = 1


def share_out(layer: DecoderLayer, mesh: DeviceMesh) -> list[nn.Module]:
    """Spread a layer's attention and dense feed-forwards over `mesh` and return the modules whose weights are."""
    blocks: list[nn.Module] = [layer.self_attn]
    blocks += [module for module in layer.mlp.modules() if isinstance(module, FeedForward)]
    shared: list[nn.Module] = []
    for block in blocks:
        for name, module in block.named_children():
            if name in _BY_ROWS + _BY_COLUMNS:
                assert isinstance(module, nn.Linear)
                part = _PartOfLinear(module, mesh, _OF_ROWS if name in _BY_ROWS else _OF_COLUMNS)
                setattr(block, name, part)
                shared.append(part)
        _gather_and_share(block, mesh.get_group())
    if isinstance(layer.self_attn, Attention):
        _take_own_heads(layer.self_attn, mesh.get_group())
    return shared


class _PartOfLinear(nn.Module):
    """The product with this rank's part of a matrix, with a bias and adapters where there are any; all keep their
    names."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    lora_A: nn.Parameter
    lora_B: nn.Parameter

    def __init__(self, whole: nn.Linear, mesh: DeviceMesh, places: dict[str, Placement]):
        super().__init__()
        self.register_parameter("bias", None)
        for name, parameter in whole.named_parameters():
            part = distribute_tensor(parameter.detach(), mesh, [places[name]], src_data_rank=None)
            setattr(self, name, nn.Parameter(part, requires_grad=parameter.requires_grad))
        self.product = product_of(whole, here(self.weight))
        # Where the ranks' results are summed, a bias comes from one of them.
        self.biased = float(places["bias"].is_shard() or mesh.get_local_rank() == 0)
        self.scale = whole.scale if isinstance(whole, LoRALinear) else 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.product(x, here(self.weight))
        if self.bias is not None:
            out = out + self.biased * here(self.bias)
        if self.scale:
            out = out + self.scale * linear(linear(x, here(self.lora_A)), here(self.lora_B))
        return out


def _gather_and_share(block: nn.Module, group: dist.ProcessGroup) -> None:
    def before(block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        # Or each product would make, and keep for its gradient, a copy of its own.
        return gather(args[0], _TIME, group).contiguous(), *args[1:]

    def behind(block: nn.Module, args: tuple[Any, ...], out: torch.Tensor) -> torch.Tensor:
        return sum_and_share(out, _TIME, group)

    block.register_forward_pre_hook(before)
    block.register_forward_hook(behind)


def _take_own_heads(attention: Attention, group: dist.ProcessGroup) -> None:
    """Of what there is for each head, and is not parted, let a rank use what is its heads'."""
    if attention.whole:
        for name in ("q_norm", "k_norm"):
            setattr(attention, name, _NormOverRanks(getattr(attention, name), group))
    if attention.sinks is not None:

        def with_own_sinks(block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            x, positions, attend = args
            return x, positions, _OwnSinks(attend, group)

        attention.register_forward_pre_hook(with_own_sinks)


class _NormOverRanks(nn.Module):
    """A norm over the heads of all ranks, of which each has some: [batch, time, numbers of its heads] to the same."""

    def __init__(self, whole: RMSNorm, group: dist.ProcessGroup):
        super().__init__()
        self.weight, self.eps, self.group = whole.weight, whole.eps, group

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.to(torch.promote_types(self.weight.dtype, torch.float32))
        mean = sum_over(wide.square().sum(-1, keepdim=True), [self.group]) / len(self.weight)
        weight = self.weight.chunk(self.group.size())[self.group.rank()]
        return (wide * torch.rsqrt(mean + self.eps) * weight).to(x.dtype)


class _OwnSinks:
    """An `Attend` for some heads that is told the sinks of all."""

    keeps = False

    def __init__(self, attend: Attend, group: dist.ProcessGroup):
        self.attend, self.group = attend, group

    def __call__(
        self, layer: int, q_BHTd: torch.Tensor, k_BKTd: torch.Tensor, v_BKTe: torch.Tensor, scores: Scores
    ) -> torch.Tensor:
        """`attend` with the sinks of this rank's heads."""
        assert scores.sinks is not None
        own = scores.sinks.chunk(self.group.size(), 1)[self.group.rank()]
        return self.attend(layer, q_BHTd, k_BKTd, v_BKTe, replace(scores, sinks=own))
