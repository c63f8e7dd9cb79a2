"""Grouped-query attention with per-head norms and a gated output, as in AFMoE.

What queries may see, and where keys and values live, is the business of an `Attend` that the caller hands in:
`PackedAttention` here for whole sequences, the serving engine's cache for one token at a time.
"""

from typing import Protocol

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from troth.model.config import ModelConfig
from troth.model.norm import RMSNorm
from troth.model.rope import rotate


class Attend(Protocol):
    """Attention proper: queries of one layer against the keys and values that they may see."""

    def __call__(
        self, layer: int, q_BHTd: torch.Tensor, k_BKTd: torch.Tensor, v_BKTd: torch.Tensor
    ) -> torch.Tensor:
        """Return [batch, heads, time, head_dim] for the queries; K is the number of key-value heads."""
        ...


class PackedAttention:
    """Causal attention inside each document of a packed batch: `documents_BT` numbers the document of each token.

    Sliding layers see `sliding_window` tokens, the token itself included; full layers see the whole document.
    """

    def __init__(self, config: ModelConfig, documents_BT: torch.Tensor):
        time = documents_BT.shape[1]
        position = torch.arange(time, device=documents_BT.device)
        distance_TT = position[:, None] - position[None, :]
        same_B1TT = (documents_BT[:, :, None] == documents_BT[:, None, :])[:, None]
        self.config = config
        self.masks = {
            "full_attention": same_B1TT & (distance_TT >= 0),
            "sliding_attention": same_B1TT & (distance_TT >= 0) & (distance_TT < config.sliding_window),
        }

    def __call__(
        self, layer: int, q_BHTd: torch.Tensor, k_BKTd: torch.Tensor, v_BKTd: torch.Tensor
    ) -> torch.Tensor:
        mask = self.masks[self.config.layer_type(layer)]
        return scaled_dot_product_attention(q_BHTd, k_BKTd, v_BKTd, attn_mask=mask, enable_gqa=True)


class Attention(nn.Module):
    """[batch, time, hidden] -> the same; only sliding layers turn queries and keys by their positions."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.rotary = config.layer_type(layer) == "sliding_attention"
        query_size = config.num_attention_heads * config.head_dim
        key_size = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, key_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, key_size, bias=False)
        self.o_proj = nn.Linear(query_size, config.hidden_size, bias=False)
        self.gate_proj = nn.Linear(config.hidden_size, query_size, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(
        self, x_BTD: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor], attend: Attend
    ) -> torch.Tensor:
        heads = (*x_BTD.shape[:2], -1, self.head_dim)
        q_BHTd = self.q_norm(self.q_proj(x_BTD).view(heads)).transpose(1, 2)
        k_BKTd = self.k_norm(self.k_proj(x_BTD).view(heads)).transpose(1, 2)
        v_BKTd = self.v_proj(x_BTD).view(heads).transpose(1, 2)
        if self.rotary:
            q_BHTd, k_BKTd = rotate(q_BHTd, *angles), rotate(k_BKTd, *angles)
        out_BTH = attend(self.layer, q_BHTd, k_BKTd, v_BKTd).transpose(1, 2).reshape(*x_BTD.shape[:2], -1)
        return self.o_proj(out_BTH * torch.sigmoid(self.gate_proj(x_BTD)))
