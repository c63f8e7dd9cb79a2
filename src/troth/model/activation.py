"""What stands between the two products of a feed-forward: gated units (Shazeer, 2002.05202) of the known families."""

import torch
from torch.nn.functional import gelu, silu

from troth.model.config import ModelConfig


def gated(gate: torch.Tensor, up: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """act(gate) * up, of one shape; act is SiLU or the tanh form of GELU."""
    return (silu(gate) if config.activation == "silu" else gelu(gate, approximate="tanh")) * up


def gated_expert(gate_up: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """`gated` of the two halves, [..., 2 * size] -> [..., size]; with `swiglu_limit` gpt-oss's unit: both halves are
    clamped, and the linear one starts at one."""
    gate, up = gate_up.chunk(2, dim=-1)
    if config.swiglu_limit is None:
        return gated(gate, up, config)
    gate, up = gate.clamp(max=config.swiglu_limit), up.clamp(-config.swiglu_limit, config.swiglu_limit)
    return gate * torch.sigmoid(gate * config.swiglu_alpha) * (up + 1)
