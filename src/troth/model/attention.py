"""Grouped-query attention; by configuration with norms of queries and keys and a gated output, as in AFMoE.

What queries may see, and where keys and values live, is the business of an `Attend` that the caller hands in:
`MaskedAttention` here for whole sequences, the serving engine's cache for some tokens at a time.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from troth.model.blocks import block_attention
from troth.model.config import LayerType, ModelConfig
from troth.model.flex import flex, flex_can
from troth.model.norm import RMSNorm
from troth.model.products import Linear
from troth.model.rope import Positions, rotate
from troth.model.scores import Scores, Seen, SeenBetween

_FEW_QUERIES, _MANY_KEYS = 32, 2048
"""With fewer queries torch's fused attention is as fast on the CPU; with more keys too, in float32 without gradient."""


class Attend(Protocol):
    """Attention proper: queries of one layer against the keys and values that they may see.

    `keeps` says that it stores keys and values for later steps: latent attention then hands over its latents.
    """

    keeps: bool

    def __call__(
        self, layer: int, q_BHTd: torch.Tensor, k_BKTd: torch.Tensor, v_BKTe: torch.Tensor, scores: Scores
    ) -> torch.Tensor:
        """Return [batch, heads, time, value size] for the queries; K is the number of key-value heads."""
        ...


class MaskedAttention:
    """Attention over whole sequences; `seen` says for each kind of layer who sees whom."""

    keeps = False

    def __init__(self, config: ModelConfig, seen: Mapping[LayerType, Seen]):
        self.config, self.seen = config, seen

    def __call__(
        self, layer: int, q_BHTd: torch.Tensor, k_BKTd: torch.Tensor, v_BKTe: torch.Tensor, scores: Scores
    ) -> torch.Tensor:
        return attention(q_BHTd, k_BKTd, v_BKTe, self.seen[self.config.layer_type(layer)], scores)


def packed_attention(
    config: ModelConfig, documents_BT: torch.Tensor, queries_Q: torch.Tensor | None = None
) -> MaskedAttention:
    """Causal attention inside each document of a packed batch: `documents_BT` numbers the documents of a row in order.

    Sliding layers see `sliding_window` tokens, the token itself included; full layers see the whole document. With
    `queries_Q`, only the queries of these times are there.
    """
    time = documents_BT.shape[1]
    if queries_Q is None:
        queries_Q = torch.arange(time, device=documents_BT.device)
    begin_BQ = torch.searchsorted(documents_BT.contiguous(), documents_BT[:, queries_Q].contiguous())
    near_BQ = begin_BQ.maximum(queries_Q - config.window + 1)
    return MaskedAttention(
        config,
        {
            "full_attention": SeenBetween(begin_BQ, queries_Q, time),
            "sliding_attention": SeenBetween(near_BQ, queries_Q, time),
        },
    )


def fused_is_faster(q_BHTd: torch.Tensor) -> bool:
    """Whether torch's fused attention is faster, where it can do what is asked, than products block by block."""
    return q_BHTd.device.type != "cpu" or q_BHTd.shape[2] < _FEW_QUERIES


def attention(
    q_BHTd: torch.Tensor, k_BKLd: torch.Tensor, v_BKLe: torch.Tensor, seen: Seen, scores: Scores
) -> torch.Tensor:
    """[batch, heads, queries, value size]; each of the K key heads serves H / K heads, one after the other.

    Memory grows with the queries and the keys, not with their product, in the backward pass too.
    """
    if flex_can(q_BHTd, v_BKLe, seen):
        assert isinstance(seen, SeenBetween)
        return flex(q_BHTd, k_BKLd, v_BKLe, seen, scores)
    plain = scores.softcap is None and scores.temperature is None and scores.sinks is None
    learns = torch.is_grad_enabled() and q_BHTd.requires_grad
    many = k_BKLd.shape[2] > _MANY_KEYS and q_BHTd.dtype != torch.bfloat16 and not learns
    if plain and (many or fused_is_faster(q_BHTd)):
        grouped = q_BHTd.shape[1] != k_BKLd.shape[1]
        return scaled_dot_product_attention(
            q_BHTd, k_BKLd, v_BKLe, attn_mask=seen.mask, scale=scores.scale, enable_gqa=grouped
        )
    return block_attention(q_BHTd, k_BKLd, v_BKLe, seen, scores)


class Attention(nn.Module):
    """[batch, time, hidden] -> the same."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.config = config
        self.layer = layer
        self.head_dim = config.head_dim
        self.rotary = config.uses_rope(layer)
        query_size = config.num_attention_heads * config.head_dim
        key_size = config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(config.hidden_size, query_size, bias=config.biases)
        self.k_proj = Linear(config.hidden_size, key_size, bias=config.biases)
        self.v_proj = Linear(config.hidden_size, key_size, bias=config.biases)
        self.o_proj = Linear(query_size, config.hidden_size, bias=config.biases)
        self.gate_proj = Linear(config.hidden_size, query_size, bias=False) if config.attention_gate else None
        self.whole = config.qk_norm == "width"
        self.q_norm = self.k_norm = None
        if config.qk_norm != "none":
            self.q_norm = RMSNorm(query_size if self.whole else config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(key_size if self.whole else config.head_dim, config.rms_norm_eps)
        self.sinks = nn.Parameter(torch.empty(config.num_attention_heads)) if config.attention_sinks else None

    def forward(self, x_BTD: torch.Tensor, positions: Positions, attend: Attend) -> torch.Tensor:
        q_BHTd = self._heads(self.q_proj(x_BTD), self.q_norm)
        k_BKTd = self._heads(self.k_proj(x_BTD), self.k_norm)
        v_BKTd = self._heads(self.v_proj(x_BTD), None)
        if self.rotary:
            q_BHTd = rotate(q_BHTd, positions.cos, positions.sin)
            k_BKTd = rotate(k_BKTd, positions.cos, positions.sin)
        scores = Scores(
            scale=self.config.attention_scale, softcap=self.config.attention_softcap,
            temperature=positions.temperature, sinks=None if self.sinks is None else self.sinks[None, :, None, None],
        )  # fmt: skip
        out_BTH = attend(self.layer, q_BHTd, k_BKTd, v_BKTd, scores).transpose(1, 2).flatten(2)
        if self.gate_proj is not None:
            out_BTH = out_BTH * torch.sigmoid(self.gate_proj(x_BTD))
        return self.o_proj(out_BTH)

    def _heads(self, x_BTH: torch.Tensor, norm: RMSNorm | None) -> torch.Tensor:
        """[batch, time, heads * head_dim] -> [batch, heads, time, head_dim], normalised."""
        if norm is not None and self.whole:
            x_BTH = norm(x_BTH)
        x_BTHd = x_BTH.view(*x_BTH.shape[:2], -1, self.head_dim)
        if norm is not None and not self.whole:
            x_BTHd = norm(x_BTHd)
        return x_BTHd.transpose(1, 2)
