"""Collectives that gradients flow back through: each one's backward pass is the other's forward pass."""

from typing import Any

import torch
import torch.distributed as dist

_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
"""Under their names of torch 2.13, or those before."""


def gather(x: torch.Tensor, dim: int, group: dist.ProcessGroup) -> torch.Tensor:
    """The shares of all ranks one after another along `dim`; gradients of a share are summed over the ranks."""
    out: torch.Tensor = _Gather.apply(x, dim, group)
    return out


def sum_and_share(x: torch.Tensor, dim: int, group: dist.ProcessGroup) -> torch.Tensor:
    """This rank's share along `dim` of the sum over all ranks."""
    out: torch.Tensor = _SumAndShare.apply(x, dim, group)
    return out


def sum_over(x: torch.Tensor, groups: list[dist.ProcessGroup]) -> torch.Tensor:
    """The sum over all ranks of the groups, one group after another, which each rank has; so are its gradients."""
    for group in groups:
        x = _Sum.apply(x, group)
    return x


def exchange(x: torch.Tensor, receive: list[int], send: list[int], group: dist.ProcessGroup) -> torch.Tensor:
    """Send the first `send[0]` rows to rank 0 and so on; the rows that come, `receive[0]` from rank 0 and so on."""
    out: torch.Tensor = _Exchange.apply(x, receive, send, group)
    return out


def _gathered(x: torch.Tensor, dim: int, group: dist.ProcessGroup) -> torch.Tensor:
    first = x.movedim(dim, 0).contiguous()
    out = first.new_empty(group.size() * len(first), *first.shape[1:])
    _all_gather(out, first, group=group)
    return out.movedim(0, dim)


def _summed(x: torch.Tensor, dim: int, group: dist.ProcessGroup) -> torch.Tensor:
    first = x.movedim(dim, 0).contiguous()
    out = first.new_empty(len(first) // group.size(), *first.shape[1:])
    _reduce_scatter(out, first, group=group)
    return out.movedim(0, dim)


def _sum(x: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    out = x.clone()
    dist.all_reduce(out, group=group)
    return out


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dim: int, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.dim, ctx.group = dim, group
        return _gathered(x, dim, group)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _summed(grad, ctx.dim, ctx.group), None, None


class _SumAndShare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dim: int, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.dim, ctx.group = dim, group
        return _summed(x, dim, group)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _gathered(grad, ctx.dim, ctx.group), None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        return _sum(x, group)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _sum(grad, ctx.group), None


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, receive: list[int], send: list[int], group: dist.ProcessGroup
    ) -> torch.Tensor:
        ctx.receive, ctx.send, ctx.group = receive, send, group
        return exchanged(x, receive, send, group)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return exchanged(grad, ctx.send, ctx.receive, ctx.group), None, None, None


def exchanged(x: torch.Tensor, receive: list[int], send: list[int], group: dist.ProcessGroup) -> torch.Tensor:
    """`exchange` without gradients."""
    out = x.new_empty(sum(receive), *x.shape[1:])
    dist.all_to_all_single(out, x.contiguous(), receive, send, group=group)
    return out
