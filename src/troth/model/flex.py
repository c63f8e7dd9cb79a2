"""Attention on a GPU by torch's flex_attention (Dong et al., 2412.05496): one compiled kernel for windows, documents,
softcaps, temperatures and sinks, which multiplies no block of keys that a block of queries does not see, in memory that
grows with the queries and the keys.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from troth.model.scores import Scores, Seen, SeenBetween

_FEWEST_QUERIES = 128
_SMALLEST_HEAD = 16
_DTYPES = torch.bfloat16, torch.float16, torch.float32


def flex_can(q_BHTd: torch.Tensor, v_BKLe: torch.Tensor, seen: Seen) -> bool:
    """Whether `flex` can do this, and is worth it: its kernel wants heads of 16 and, to fill a block, 128 queries."""
    sizes = q_BHTd.shape[3], v_BKLe.shape[3]
    return (
        q_BHTd.device.type == "cuda" and isinstance(seen, SeenBetween) and q_BHTd.dtype in _DTYPES
        and q_BHTd.shape[2] >= _FEWEST_QUERIES and min(sizes) >= _SMALLEST_HEAD
    )  # fmt: skip


def flex(
    q_BHTd: torch.Tensor, k_BKLd: torch.Tensor, v_BKLe: torch.Tensor, seen: SeenBetween, scores: Scores
) -> torch.Tensor:
    """[batch, heads, queries, value size]; each of the K key heads serves H / K heads, one after the other."""
    bend, sinks = _bent(scores, q_BHTd), scores.sinks
    out_BHTe, lse_BHT = _kernel(q_BHTd.device.type)(
        q_BHTd, k_BKLd, v_BKLe, bend, seen.block_mask, scores.scale, sinks is not None
    )
    if sinks is None:
        return out_BHTe
    # A sink takes its share of the softmax and has no value: what remains is the others' part of the whole.
    assert lse_BHT is not None
    return out_BHTe * torch.sigmoid(lse_BHT[..., None] - sinks).to(out_BHTe.dtype)


@cache
def _kernel(device: str) -> "Callable[..., tuple[torch.Tensor, torch.Tensor | None]]":
    return torch.compile(_flex, fullgraph=True) if device == "cuda" else _flex


def _flex(
    q_BHTd: torch.Tensor, k_BKLd: torch.Tensor, v_BKLe: torch.Tensor, bend: Callable[..., torch.Tensor] | None,
    block_mask: BlockMask, scale: float, with_lse: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
    """Attention, and if asked the logarithm of what each query's weights were divided by, [batch, heads, queries]."""
    grouped = q_BHTd.shape[1] != k_BKLd.shape[1]
    if not with_lse:
        return flex_attention(q_BHTd, k_BKLd, v_BKLe, bend, block_mask, scale, grouped), None
    out_BHTe, aux = flex_attention(
        q_BHTd, k_BKLd, v_BKLe, bend, block_mask, scale, grouped, return_aux=AuxRequest(lse=True)
    )
    return out_BHTe, aux.lse


def _bent(scores: Scores, q_BHTd: torch.Tensor) -> Callable[..., torch.Tensor] | None:
    """What is done to a score, already scaled, before the softmax."""
    softcap, temperature = scores.softcap, scores.temperature
    if softcap is None and temperature is None:
        return None
    if temperature is not None:
        temperature = temperature.expand(*q_BHTd.shape[:3], 1)

    def bend(
        score: torch.Tensor, row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        if softcap is not None:
            score = softcap * torch.tanh(score / softcap)
        if temperature is not None:
            score = score * temperature[row, head, query, 0]
        return score

    return bend
