"""Products of linear layers in 8-bit floats, each tensor scaled by its largest number as it comes: inputs and weights
in e4m3, gradients in e5m2 (Micikevicius et al., 2209.05433; the tensorwise recipe of torchao).

Weights, activations and sums stay as they are under bf16. Routers, the head, embeddings, norms and routed experts are
computed as under bf16 too, and so is a linear layer with a size that is no multiple of 16.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad

from troth.model.products import Linear, linear

_FORWARD, _BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
_ALIGNED = 16
"""Sizes that a GPU's 8-bit products want multiples of."""
_NAMES = "_proj", "_proj_with_mqa"
Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of an input [..., in] and a weight [out, in]."""


def has_float8(device: str) -> bool:
    """Whether 8-bit products run on a device: on NVIDIA GPUs from compute capability 8.9 (Ada, Hopper) on."""
    ones = torch.ones(_ALIGNED, _ALIGNED, device=device)
    try:
        return bool((float8_linear(ones, ones) == _ALIGNED).all())
    except (RuntimeError, ValueError, NotImplementedError):
        return False


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MI: torch.Tensor, w_OI: torch.Tensor) -> torch.Tensor:
        of_x, of_w = _scale(x_MI, _FORWARD), _scale(w_OI, _FORWARD)
        # Not the 8-bit copies: the input is kept once for all layers that take it, and FSDP brings the weight again.
        ctx.save_for_backward(x_MI, w_OI, of_x, of_w)
        x, w = _cast(x_MI, of_x, _FORWARD), _cast(w_OI, of_w, _FORWARD)
        return torch._scaled_mm(
            x, w.t(), scale_a=of_x.reciprocal(), scale_b=of_w.reciprocal(), out_dtype=x_MI.dtype, use_fast_accum=True
        )

    @staticmethod
    def backward(ctx: Any, grad_MO: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        x_MI, w_OI, of_x, of_w = ctx.saved_tensors
        of_grad = _scale(grad_MO, _BACKWARD)
        grad = _cast(grad_MO, of_grad, _BACKWARD)
        to_x = to_w = None
        if ctx.needs_input_grad[0]:
            w = _by_columns(_cast(w_OI, of_w, _FORWARD))
            to_x = torch._scaled_mm(
                grad, w, scale_a=of_grad.reciprocal(), scale_b=of_w.reciprocal(), out_dtype=x_MI.dtype
            )
        if ctx.needs_input_grad[1]:
            # Here rows are summed over; rows of zeros make their number one that the product takes.
            lacking = -len(x_MI) % _ALIGNED
            by_output, x = (
                pad(part.view(torch.uint8), (0, 0, 0, lacking)).view(part.dtype) if lacking else part
                for part in (grad, _cast(x_MI, of_x, _FORWARD))
            )
            to_w = torch._scaled_mm(
                by_output.t().contiguous(), _by_columns(x), scale_a=of_grad.reciprocal(), scale_b=of_x.reciprocal(),
                out_dtype=w_OI.dtype,
            )  # fmt: skip
        return to_x, to_w


def float8_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`torch.nn.functional.linear` with its three products in 8 bits; the result has the type of `x`."""
    out: torch.Tensor = _Product.apply(x.flatten(0, -2), weight)
    out = out.view(*x.shape[:-1], -1)
    return out if bias is None else out + bias


class Float8Linear(nn.Linear):
    """A linear layer computed so; `weight` and `bias` are those of the layer it replaces."""

    def __init__(self, base: nn.Linear):
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return float8_linear(x, self.weight, self.bias)


def fits(weight: torch.Tensor) -> bool:
    """Whether both sizes of a matrix are such that its products may be in 8 bits."""
    return all(size % _ALIGNED == 0 for size in weight.shape)


def to_float8(part: nn.Module) -> None:
    """Replace the projections of attention, dense feed-forwards and shared experts of a network where sizes fit.

    Raises ValueError where none does.
    """
    layers = {name: layer for name, layer in part.named_modules() if type(layer) is Linear and name.endswith(_NAMES)}
    fitting = {name: layer for name, layer in layers.items() if fits(layer.weight)}
    if not fitting:
        raise ValueError("train.precision='float8': no projection's sizes are multiples of 16; use bf16")
    for name, layer in fitting.items():
        part.set_submodule(name, Float8Linear(layer))


def product_of(layer: nn.Linear, weight: torch.Tensor) -> Product:
    """`linear`, or `float8_linear` where the layer is computed so and this rank's part of its weight fits."""
    return float8_linear if isinstance(layer, Float8Linear) and fits(weight) else linear


def _scale(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What makes the largest number of `x` the largest of `dtype`; float32, of no dimension."""
    largest = torch.linalg.vector_norm(x, float("inf"), dtype=torch.float32)
    return torch.finfo(dtype).max / largest.clamp(min=1e-12)


def _cast(x: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    limit = torch.finfo(dtype).max
    return (x.float() * scale).clamp(-limit, limit).to(dtype)


def _by_columns(x: torch.Tensor) -> torch.Tensor:
    """The same matrix with its columns together in memory, as products want their right side."""
    return x.t().contiguous().t()
