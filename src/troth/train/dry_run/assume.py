"""What a run without numbers takes for granted where the real one looks at them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import placement_types

from troth.model import attention, flex, norm, scores
from troth.train.dry_run.replaced import replaced
from troth.train.parallel.expert_parallel import AllToAll


@contextmanager
def assumed(gpu: bool) -> Iterator[None]:
    """Each rank gets its even share of the tokens' choices, every token has a target, and attention, where it goes
    block by block, looks at all keys. With `gpu`, attention, norms and DTensor's exchanges are those of GPUs, though
    tensors say that they are on a CPU."""
    answers: list[tuple[Any, str, Any]] = [
        (AllToAll, "rows", _even_rows), (scores.SeenBetween, "find_spans", _all_keys),
    ]  # fmt: skip
    if gpu:
        answers += [
            (attention, "flex_can", lambda q_BHTd, v_BKLe, seen: isinstance(seen, scores.SeenBetween)),
            (flex, "_kernel", lambda device: _flex_kernel),
            (norm, "_by_hand", lambda x, weight: False),
            (nn.functional, "rms_norm", lambda x, shape, weight, eps: _FusedNorm.apply(x, weight)),
            (placement_types, "shard_dim_alltoall", _all_to_all),
        ]
    with replaced(answers):
        yield


def _even_rows(
    self: AllToAll, x_MD: torch.Tensor, sent_RE: torch.Tensor, got_RE: torch.Tensor
) -> tuple[list[int], list[int]]:
    each, over = divmod(len(x_MD), self.ep)
    rows = [each + (place < over) for place in range(self.ep) for _ in range(self.etp)]
    return rows, rows


def _all_keys(self: scores.SeenBetween, rows: int) -> list[scores.Span]:
    return [scores.Span(0, self.keys, 0) for _ in self.high.split(rows)]


def _all_to_all(x: torch.Tensor, gather_dim: int, shard_dim: int, mesh: DeviceMesh, mesh_dim: int) -> torch.Tensor:
    """What DTensor does but on a CPU, where it gathers all and keeps a part; its steps are one operation there, of
    which fake tensors know too little."""
    group = mesh.get_group(mesh_dim)
    send = x.unflatten(shard_dim, (group.size(), -1)).movedim(shard_dim, 0).contiguous()
    received = torch.empty_like(send)
    dist.all_to_all_single(received, send, group=group)
    return received.movedim(0, gather_dim).flatten(gather_dim, gather_dim + 1).contiguous()


def _flex_kernel(
    q_BHTd: torch.Tensor, k_BKLd: torch.Tensor, v_BKLe: torch.Tensor, *_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    out: tuple[torch.Tensor, torch.Tensor] = _Flex.apply(q_BHTd, k_BKLd, v_BKLe)
    return out


class _Flex(torch.autograd.Function):
    """A GPU's attention is one kernel, which keeps its input, its result and a sum for each query."""

    @staticmethod
    def forward(
        ctx: Any, q_BHTd: torch.Tensor, k_BKLd: torch.Tensor, v_BKLe: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        batch, heads, queries, _ = q_BHTd.shape
        # Laid out as its queries are.
        out = q_BHTd.new_empty(batch, queries, heads, v_BKLe.shape[-1]).transpose(1, 2)
        lse = q_BHTd.new_empty(batch, heads, queries, dtype=torch.float32)
        ctx.save_for_backward(q_BHTd, k_BKLd, v_BKLe, out, lse)
        return out, lse

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        *factors, _out, lse = ctx.saved_tensors
        _delta = torch.empty_like(lse)
        return tuple(torch.empty_like(factor) for factor in factors)


class _FusedNorm(torch.autograd.Function):
    """A GPU's norm is one kernel, which keeps its input and a factor for each row, and makes nothing else."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight, x.new_empty(*x.shape[:-1], 1, dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, weight, _ = ctx.saved_tensors
        return torch.empty_like(x), torch.empty_like(weight)


def _grouped(a: torch.Tensor, b: torch.Tensor, offsets: torch.Tensor, *_: None) -> torch.Tensor:
    """The result of a grouped product: rows in groups, or, between two matrices, one product for each group."""
    if a.dim() == 2 and b.dim() == 2:
        return a.new_empty(len(offsets), a.shape[0], b.shape[1])
    return a.new_empty(a.shape[0], b.shape[-1])


ANSWERS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.nonzero.default: lambda x: x.new_empty(x.numel(), x.dim(), dtype=torch.int64),
    torch.ops.aten._grouped_mm.default: _grouped,
    # Of a step: the number of targets, and a pipeline's vote that all stages know their shapes.
    torch.ops.aten._local_scalar_dense.default: lambda x: 1,
    # Asked for at each operation, and slow to find out otherwise.
    torch.ops.prim.device.default: lambda x: x.fake_device,
}
"""What operations return that fake tensors have no answer to, on a CPU at least."""
