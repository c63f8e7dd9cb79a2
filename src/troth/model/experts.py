"""Routed experts: tokens are brought into the order of their experts, and each product is one grouped product."""

from typing import Protocol

import torch
from torch import nn

from troth.model.activation import gated_expert
from troth.model.config import ModelConfig
from troth.model.products import grouped


class Transport(Protocol):
    """Brings rows to the ranks of their experts and what the experts make of them back."""

    def __call__(self, x_MD: torch.Tensor, counts_E: torch.Tensor, experts: "Experts") -> torch.Tensor:
        """Return `experts.apply_to` of the rows, `counts_E` to each of all experts in order."""
        ...


class Experts(nn.Module):
    """All routed experts of a layer in two stacked weights, and by configuration their biases: [experts, 2, size,
    hidden] for gate and up, [experts, hidden, size] for down.

    Where a rank holds some of the experts only, their weights are DTensors and `transport` is set. Where each expert is
    on several ranks, `inner_parts` of its size, their results are to be summed.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        experts, hidden, size = config.num_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2, size, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, size))
        self.gate_up_bias = nn.Parameter(torch.empty(experts, 2, size)) if config.biases else None
        self.down_bias = nn.Parameter(torch.empty(experts, hidden)) if config.biases else None
        self.transport: Transport | None = None
        self.inner_parts = 1

    def forward(self, x_ND: torch.Tensor, gates_Nk: torch.Tensor, chosen_Nk: torch.Tensor) -> torch.Tensor:
        """Each token's gate-weighted sum over its experts, [tokens, hidden]."""
        order_M = chosen_Nk.flatten().argsort(stable=True)
        token_M = order_M // chosen_Nk.shape[1]
        counts_E = count_choices(chosen_Nk, self.config.num_experts)
        # Not x_ND[token_M], whose gradient is summed in an order that changes from run to run.
        x_MD = x_ND.index_select(0, token_M)
        if self.transport is None:
            out_MD = self.apply_to(x_MD, counts_E)
        else:
            out_MD = self.transport(x_MD, counts_E, self)
        out_MD = out_MD * gates_Nk.flatten()[order_M, None].to(out_MD.dtype)
        return torch.zeros_like(x_ND).index_add_(0, token_M, out_MD)

    def apply_to(self, x_MD: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
        """Rows, `counts_E` to each expert that this rank holds in order, through their experts."""
        return self.project("down", gated_expert(self.project("gate_up", x_MD, counts_E), self.config), counts_E)

    def project(self, part: str, x_MI: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
        """Rows, `counts_E` to each expert in order, through `gate_up` (gate's numbers first) or `down`."""
        weight, bias = here(getattr(self, f"{part}_proj")), getattr(self, f"{part}_bias")
        bias_EO = None if bias is None else here(bias).flatten(1)
        if bias_EO is not None and part == "down" and self.inner_parts > 1:
            bias_EO = bias_EO / self.inner_parts  # All parts have it whole.
        return product(x_MI, weight.flatten(1, -2), bias_EO, counts_E)


def here(weight: torch.Tensor) -> torch.Tensor:
    """What of a weight this rank holds. DTensor itself is not imported: serving does without it."""
    return weight.to_local() if hasattr(weight, "to_local") else weight


def count_choices(chosen_Nk: torch.Tensor, experts: int) -> torch.Tensor:
    """How many tokens chose each expert, [experts]; unlike bincount, without waiting for a GPU."""
    chosen = chosen_Nk.flatten()
    return torch.zeros(experts, dtype=torch.int64, device=chosen.device).index_add_(0, chosen, torch.ones_like(chosen))


def product(
    x_MI: torch.Tensor, w_EOI: torch.Tensor, bias_EO: torch.Tensor | None, counts_E: torch.Tensor
) -> torch.Tensor:
    """Rows, `counts_E` to each expert in order, times its matrix, plus its bias."""
    y_MO = grouped(x_MI, w_EOI, counts_E)
    if bias_EO is None:
        return y_MO
    # The number of rows is told: a GPU would be waited for to count them.
    return y_MO + bias_EO.repeat_interleave(counts_E, dim=0, output_size=len(y_MO))
