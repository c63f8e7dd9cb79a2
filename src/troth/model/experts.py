"""Routed experts: tokens are brought into the order of their experts, and each product is one grouped product.

The gradient is written out, so that little is kept for it and little is computed twice: of a token's gate it is the
product of what arrives with what the expert sent, and that is (W^T g) . a where the expert sent W a.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import grouped_mm

from troth.model.activation import gated_expert
from troth.model.config import ModelConfig


class Experts(nn.Module):
    """All routed experts of a layer in two stacked weights, [experts, out, in], and by configuration their biases."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        experts, hidden, size = config.num_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * size, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, size))
        self.gate_up_bias = nn.Parameter(torch.empty(experts, 2 * size)) if config.biases else None
        self.down_bias = nn.Parameter(torch.empty(experts, hidden)) if config.biases else None

    def forward(self, x_ND: torch.Tensor, gates_Nk: torch.Tensor, chosen_Nk: torch.Tensor) -> torch.Tensor:
        """Each token's gate-weighted sum over its experts, [tokens, hidden]."""
        weights = self.gate_up_proj, self.down_proj, self.gate_up_bias, self.down_bias
        out: torch.Tensor = _Routed.apply(x_ND, gates_Nk, chosen_Nk, *weights, self.config)
        return out


class _Routed(torch.autograd.Function):
    """M is the number of (token, expert) pairs, in the order of the experts."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: torch.Tensor, gates_Nk: torch.Tensor, chosen_Nk: torch.Tensor, up_EOD: torch.Tensor,
        down_EDF: torch.Tensor, up_bias: torch.Tensor | None, down_bias: torch.Tensor | None, config: ModelConfig,
    ) -> torch.Tensor:  # fmt: skip
        order_M = chosen_Nk.flatten().argsort(stable=True)
        token_M = order_M // chosen_Nk.shape[1]
        counts_E = torch.bincount(chosen_Nk.flatten(), minlength=len(down_EDF))
        gate_M1 = gates_Nk.flatten()[order_M, None].to(x_ND.dtype)
        hidden_MO = _product(x_ND.index_select(0, token_M), up_EOD.mT, up_bias, counts_E)
        out_MD = _product(gated_expert(hidden_MO, config), down_EDF.mT, down_bias, counts_E)
        ctx.save_for_backward(x_ND, order_M, token_M, counts_E, gate_M1, hidden_MO, up_EOD, down_EDF, down_bias)
        ctx.config, ctx.gates = config, gates_Nk
        return torch.zeros_like(x_ND).index_add_(0, token_M, out_MD.mul_(gate_M1))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_ND: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_ND, order_M, token_M, counts_E, gate_M1, hidden_MO, up_EOD, down_EDF, down_bias = ctx.saved_tensors
        grad_MD = grad_ND.index_select(0, token_M)
        with torch.enable_grad():
            leaf = hidden_MO.detach().requires_grad_()
            active_MF = gated_expert(leaf, ctx.config)
        # Before it is weighed by the gate, the gradient of `active` gives that of the gate as well.
        grad_active = _product(grad_MD, down_EDF, None, counts_E)
        active = active_MF.detach()
        grad_gate_M = (grad_active * active).sum(-1)
        if down_bias is not None:
            grad_gate_M = grad_gate_M + (grad_MD * _spread(down_bias, counts_E)).sum(-1)
        grad_gates = torch.empty_like(ctx.gates).flatten().index_copy_(0, order_M, grad_gate_M.to(ctx.gates.dtype))
        grad_MD.mul_(gate_M1)
        grad_down = _weight_gradient(grad_MD, active, counts_E)
        [grad_hidden] = torch.autograd.grad(active_MF, leaf, grad_active.mul_(gate_M1))
        grad_up = _weight_gradient(grad_hidden, x_ND.index_select(0, token_M), counts_E)
        grad_x = torch.zeros_like(x_ND).index_add_(0, token_M, _product(grad_hidden, up_EOD, None, counts_E))
        biases: tuple[torch.Tensor | None, ...] = (None, None)
        if down_bias is not None:
            biases = _sums(grad_hidden, counts_E), _sums(grad_MD, counts_E)
        return grad_x, grad_gates.view_as(ctx.gates), None, grad_up, grad_down, *biases, None


def _product(
    x_MI: torch.Tensor, w_EIO: torch.Tensor, bias_EO: torch.Tensor | None, counts_E: torch.Tensor
) -> torch.Tensor:
    """Rows, `counts_E` to each expert in order, times its matrix. float64, which grouped_mm refuses, takes a loop."""
    if x_MI.dtype == torch.float64:
        rows = x_MI.split(counts_E.tolist())
        y_MO = torch.cat([row @ weight for row, weight in zip(rows, w_EIO, strict=True)])
    else:
        y_MO = grouped_mm(x_MI, w_EIO, offs=_ends(counts_E))
    return y_MO if bias_EO is None else y_MO + _spread(bias_EO, counts_E)


def _weight_gradient(grad_MO: torch.Tensor, x_MI: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
    """Of each expert the product of its rows' gradients and inputs, [experts, out, in]."""
    if x_MI.dtype == torch.float64:
        parts = zip(grad_MO.split(counts_E.tolist()), x_MI.split(counts_E.tolist()), strict=True)
        return torch.stack([grad.T @ x for grad, x in parts])
    return grouped_mm(grad_MO.T, x_MI, offs=_ends(counts_E))


def _ends(counts_E: torch.Tensor) -> torch.Tensor:
    return counts_E.cumsum(0).int()


def _spread(of_E: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
    """For each row what its expert has."""
    return of_E.repeat_interleave(counts_E, dim=0)


def _sums(x_MO: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
    """The sum of each expert's rows, [experts, out]."""
    expert_M = torch.arange(len(counts_E), device=x_MO.device).repeat_interleave(counts_E)
    return x_MO.new_zeros(len(counts_E), x_MO.shape[1]).index_add_(0, expert_M, x_MO)
