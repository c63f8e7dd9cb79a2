"""Root-mean-square normalisation (Zhang & Sennrich, 1910.07467), computed in float32 whatever the input."""

from typing import Any

import torch
from torch import nn


class RMSNorm(nn.Module):
    """x * rsqrt(mean(x^2) + eps) * weight over the last dimension; keeps the input's shape and dtype."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = _rms_norm if _by_hand(x, self.weight) else nn.functional.rms_norm
        return normed(x.to(self.weight.dtype), x.shape[-1:], self.weight, self.eps).to(x.dtype)


def _by_hand(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """torch has no kernel for a norm's gradient on a CPU, and takes thrice as long over it operation by operation, and
    more memory. DTensors are left to it."""
    learned = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return learned and x.device.type == "cpu" and not any(hasattr(part, "to_local") for part in (x, weight))


def _rms_norm(x: torch.Tensor, shape: torch.Size, weight: torch.Tensor, eps: float) -> torch.Tensor:
    out: torch.Tensor = _Norm.apply(x, weight, eps)
    return out


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w_D: torch.Tensor, eps: float) -> torch.Tensor:
        out = x.to(torch.promote_types(x.dtype, torch.float32), copy=True)
        inverse = out.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, w_D, inverse)
        return out.mul_(inverse).mul_(w_D).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        x, w_D, inverse = ctx.saved_tensors
        wide, size = inverse.dtype, x.shape[-1]
        unit, to_x, w = x.to(wide, copy=True).mul_(inverse), grad.to(wide, copy=True), w_D.to(wide)
        to_w_ND = (to_x * unit).reshape(-1, size)
        # What points along the row changes its length alone, which the norm takes away.
        along = (to_w_ND @ w).view_as(inverse).div_(-size)
        return to_x.mul_(w).addcmul_(unit, along).mul_(inverse).to(x.dtype), to_w_ND.sum(0).to(w_D.dtype), None
