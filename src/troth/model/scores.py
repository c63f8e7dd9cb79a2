"""From products of queries and keys to weighted values: softmax attention, plain or with what families add to it.

Scores are bent below a bound (Gemma 2, 2408.00118, section 2, and Grok-1), sharpened with the position (Grok-2), or
joined by a learned sink (gpt-oss); without any of that torch's own fused attention does the work.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

_BLOCK_BYTES = 2**27
"""Scores that exist at a time where the fused attention cannot be used."""


@dataclass(frozen=True)
class Scores:
    """What becomes of scores: times `scale`, bent below `softcap`, times `temperature`, with `sinks` beside them.

    `temperature` and `sinks` broadcast to [batch, heads, queries, 1].
    """

    scale: float
    softcap: float | None = None
    temperature: torch.Tensor | None = None
    sinks: torch.Tensor | None = None

    @property
    def plain(self) -> bool:
        """Whether the fused attention knows them."""
        return self.softcap is None and self.temperature is None and self.sinks is None


def attention(
    q_BHTd: torch.Tensor, k_BKLd: torch.Tensor, v_BKLe: torch.Tensor, mask: torch.Tensor, scores: Scores
) -> torch.Tensor:
    """[batch, heads, queries, value size]; `mask` (true where a query sees a key) broadcasts to [B, 1, T, L].

    The K key heads serve H / K query heads each. Memory grows with T + L, not with T * L.
    """
    if scores.plain:
        grouped = q_BHTd.shape[1] != k_BKLd.shape[1]
        return scaled_dot_product_attention(
            q_BHTd, k_BKLd, v_BKLe, attn_mask=mask, scale=scores.scale, enable_gqa=grouped
        )
    batch, heads, queries, _ = q_BHTd.shape
    rows = max(1, _BLOCK_BYTES // (4 * batch * heads * k_BKLd.shape[2]))
    if rows >= queries:
        return _block(q_BHTd, k_BKLd, v_BKLe, mask, scores)

    def cut(part: torch.Tensor | None, start: int) -> torch.Tensor | None:
        return part if part is None or part.shape[-2] == 1 else part[..., start : start + rows, :]

    blocks = []
    for start in range(0, queries, rows):
        of_block = Scores(scores.scale, scores.softcap, cut(scores.temperature, start), cut(scores.sinks, start))
        # Recomputed for the gradient: kept scores would be as large as the whole square.
        blocks.append(
            checkpoint(
                _block, q_BHTd[:, :, start : start + rows], k_BKLd, v_BKLe, cut(mask, start), of_block,
                use_reentrant=False,
            )
        )  # fmt: skip
    return torch.cat(blocks, dim=2)


def _block(
    q_BHTd: torch.Tensor, k_BKLd: torch.Tensor, v_BKLe: torch.Tensor, mask: torch.Tensor, scores: Scores
) -> torch.Tensor:
    batch, heads, queries, size = q_BHTd.shape
    kv_heads, keys = k_BKLd.shape[1:3]
    # Heads that share keys stand beside each other as further queries, so that no key is repeated.
    x = q_BHTd.reshape(batch, kv_heads, -1, size) @ k_BKLd.transpose(-1, -2)
    x = x.view(batch, heads, queries, keys).to(torch.promote_types(x.dtype, torch.float32)) * scores.scale
    if scores.softcap is not None:
        x = scores.softcap * torch.tanh(x / scores.softcap)
    if scores.temperature is not None:
        x = x * scores.temperature
    x = x.masked_fill(~mask, float("-inf"))
    if scores.sinks is not None:
        sinks = scores.sinks.to(x.dtype).expand(*x.shape[:-1], 1)
        x = torch.softmax(torch.cat((x, sinks), dim=-1), dim=-1)[..., :-1]
    else:
        x = torch.softmax(x, dim=-1)
    weights = x.to(v_BKLe.dtype).reshape(batch, kv_heads, -1, keys)
    return (weights @ v_BKLe).view(batch, heads, queries, -1)
