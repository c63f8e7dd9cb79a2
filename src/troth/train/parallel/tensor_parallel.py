"""Tensor parallelism with the sequence shared out between (Megatron-LM: Shoeybi et al., 1909.08053, section 3, and
Korthikanti et al., 2205.05198, section 4.2.2).

Ranks hold some heads, and some rows or columns of dense feed-forwards, each. Between these each rank has a share of
the times; before them the shares are gathered, behind them the ranks' sums are added up and shared out again. All
else (norms, routers, latents) is computed on a share or for some heads, and its gradients are summed by FSDP, whose
group then includes these ranks.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from troth.model.decoder import DecoderLayer
from troth.model.experts import here
from troth.model.moe import FeedForward
from troth.train.float8 import Product, product_of
from troth.train.parallel.collectives import gather, sum_and_share

_BY_ROWS = "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "q_b_proj", "kv_b_proj"
_BY_COLUMNS = "o_proj", "down_proj"
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
                place = Shard(0 if name in _BY_ROWS else 1)
                weight = distribute_tensor(module.weight.detach(), mesh, [place], src_data_rank=None)
                part = _PartOfLinear(weight, product_of(module, weight.to_local()))
                setattr(block, name, part)
                shared.append(part)
        _gather_and_share(block, mesh.get_group())
    return shared


class _PartOfLinear(nn.Module):
    """The product with this rank's part of a matrix, whose weight keeps its name."""

    def __init__(self, weight: DTensor, product: Product):
        super().__init__()
        self.weight, self.product = nn.Parameter(weight), product

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(x, here(self.weight))


def _gather_and_share(block: nn.Module, group: dist.ProcessGroup) -> None:
    def before(block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        # Or each product would make, and keep for its gradient, a copy of its own.
        return gather(args[0], _TIME, group).contiguous(), *args[1:]

    def behind(block: nn.Module, args: tuple[Any, ...], out: torch.Tensor) -> torch.Tensor:
        return sum_and_share(out, _TIME, group)

    block.register_forward_pre_hook(before)
    block.register_forward_hook(behind)
