"""Attention of a step read where keys and values lie, through the block tables, by one Triton kernel (Kwon et al.,
2309.06180, with the online softmax of FlashAttention-2, 2307.08691).

Decoding, chunks of prompts and drafts are the same to it: spans of a few queries against all that came before. Keys
are not gathered, no mask is made, and nothing about a step is known outside the device but its largest span, so that a
CUDA graph can hold it.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import cache as once
from typing import Any

import numpy as np
import torch

from troth.model.scores import Scores
from troth.serve.engine.kv_cache import KVCache, Span, slots


@dataclass(frozen=True)
class Pages:
    """Where a step of T tokens in S spans writes and reads: `slots` [T] of its tokens and block tables [S, blocks] for
    each kind of layer, the position of each span's first token [S], and the rows where spans begin and the last one
    ends [S + 1]. No span has more than `most` tokens."""

    slots: dict[str, torch.Tensor]
    tables: dict[str, torch.Tensor]
    starts_S: torch.Tensor
    rows_S: torch.Tensor
    most: int

    @classmethod
    def of(cls, cache: KVCache, spans: Items[Span]) -> "Pages":
        """On the device of the cache."""
        kinds = {"full_attention": [span.blocks for span in spans]}
        if cache.config.slides:
            kinds["sliding_attention"] = [span.sliding_blocks for span in spans]
        counts = [span.count for span in spans]
        return cls(
            {kind: slots(cache, spans, tables) for kind, tables in kinds.items()},
            {kind: _table(tables).to(cache.device) for kind, tables in kinds.items()},
            torch.tensor([span.start for span in spans], dtype=torch.int32, device=cache.device),
            torch.from_numpy(np.cumsum([0, *counts], dtype=np.int32)).to(cache.device),
            max(counts),
        )


def _table(tables: Items[list[int]]) -> torch.Tensor:
    table = np.zeros((len(tables), max(map(len, tables))), dtype=np.int32)
    for line, blocks in zip(table, tables, strict=True):
        line[: len(blocks)] = blocks
    return torch.from_numpy(table)


class PagedAttention:
    """The `Attend` of a step that `pages` describes: stores its keys and values, then each query sees its sequence up
    to itself, in layers with a window the last `window` tokens of it."""

    keeps = True

    def __init__(self, cache: KVCache, pages: Pages):
        self.cache, self.pages = cache, pages

    def __call__(
        self, layer: int, q_BHTd: torch.Tensor, k_BKTd: torch.Tensor, v_BKTe: torch.Tensor, scores: Scores
    ) -> torch.Tensor:
        config, pages = self.cache.config, self.pages
        kind = config.layer_type(layer)
        self.cache.store(layer, pages.slots[kind], k_BKTd[0], v_BKTe[0])
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        if config.latent:
            values = keys[..., : config.latent.kv_lora_rank]
        sinks, temperature = (
            None if part is None else part.flatten().float() for part in (scores.sinks, scores.temperature)
        )
        out_THe = paged_attention(
            q_BHTd[0].transpose(0, 1), keys, values, pages.tables[kind], pages.starts_S, pages.rows_S, pages.most,
            config.window if kind == "sliding_attention" else 0, scores.scale, scores.softcap or 0, temperature, sinks,
        )  # fmt: skip
        return out_THe.transpose(0, 1)[None]


@torch.library.custom_op("troth::paged_attention", mutates_args=())
def paged_attention(
    q_THd: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, table_SL: torch.Tensor, starts_S: torch.Tensor,
    rows_S: torch.Tensor, most: int, window: int, scale: float, softcap: float, temperature_T: torch.Tensor | None,
    sinks_H: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """[tokens, heads, value size] of queries whose keys and values [blocks, block size, kv heads, size] are stored.

    A `window` or `softcap` of 0 is none. Sums are float32. Needs Triton; on the CPU, in its interpreter.
    """
    import triton

    count, heads, size = q_THd.shape
    value_size, group = values.shape[-1], heads // keys.shape[2]
    out_THe = q_THd.new_empty(count, heads, value_size)
    # Wide heads (latents, float32) leave room for fewer rows and keys in the memory of a multiprocessor.
    wide = max(size, value_size) * q_THd.itemsize > 512
    rows = 16 if wide or most * group <= 16 else 64
    grid = triton.cdiv(most * group, rows), len(starts_S), keys.shape[2]
    _kernel()[grid](
        q_THd, keys, values, out_THe, table_SL, starts_S, rows_S, temperature_T, sinks_H, scale, softcap,
        *q_THd.stride(), *keys.stride(), *values.stride(), *out_THe.stride(), table_SL.stride(0),
        WINDOW=window, GROUP=group, BLOCK=keys.shape[1], SIZE=size, VALUE_SIZE=value_size,
        SIZE_2=max(16, triton.next_power_of_2(size)), VALUE_SIZE_2=max(16, triton.next_power_of_2(value_size)),
        ROWS=rows, KEYS=32 if wide else 64, SOFTCAP=softcap > 0, TEMPERED=temperature_T is not None,
        SINKS=sinks_H is not None,
    )  # fmt: skip
    return out_THe


@paged_attention.register_fake
def _(q_THd: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *_: object) -> torch.Tensor:
    return q_THd.new_empty(*q_THd.shape[:2], values.shape[-1])


@once
def _kernel() -> Any:
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator]
    def attend(  # type: ignore[no-untyped-def]
        q, keys, values, out, table, starts, firsts, temperatures, sinks, scale, softcap,
        q_t, q_h, q_d, k_n, k_s, k_h, k_d, v_n, v_s, v_h, v_e, o_t, o_h, o_e, table_s,
        WINDOW: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr, SIZE: tl.constexpr, VALUE_SIZE: tl.constexpr,
        SIZE_2: tl.constexpr, VALUE_SIZE_2: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
        SOFTCAP: tl.constexpr, TEMPERED: tl.constexpr, SINKS: tl.constexpr,
    ):  # fmt: skip
        """One program: `ROWS` rows of a span and a key head, a row being a query and one of the heads of that key."""
        span, kv_head = tl.program_id(1), tl.program_id(2)
        first, start = tl.load(firsts + span), tl.load(starts + span)
        count = tl.load(firsts + span + 1) - first
        begin = tl.program_id(0) * ROWS
        if begin >= count * GROUP:
            return
        row = begin + tl.arange(0, ROWS)
        query, head = row // GROUP, kv_head * GROUP + row % GROUP
        real = query < count
        place = (first + query).to(tl.int64)
        d, e = tl.arange(0, SIZE_2), tl.arange(0, VALUE_SIZE_2)
        own = tl.load(
            q + place[:, None] * q_t + head[:, None] * q_h + d[None, :] * q_d,
            mask=real[:, None] & (d < SIZE)[None, :], other=0.0,
        )  # fmt: skip
        if SINKS:
            highest, total = tl.load(sinks + head), tl.full((ROWS,), 1.0, tl.float32)
        else:
            highest, total = tl.full((ROWS,), -1e30, tl.float32), tl.zeros((ROWS,), tl.float32)
        if TEMPERED:
            temperature = tl.load(temperatures + place, mask=real, other=1.0)
        weighted = tl.zeros((ROWS, VALUE_SIZE_2), tl.float32)
        end = start + tl.minimum(count, (begin + ROWS - 1) // GROUP + 1)
        oldest = 0
        if WINDOW:
            oldest = tl.maximum(0, start + begin // GROUP - WINDOW + 1) // KEYS * KEYS
        for tile in range(oldest, end, KEYS):
            key = tile + tl.arange(0, KEYS)
            # A block that has left the window is -1, and nobody sees it.
            block = tl.load(table + span * table_s + key // BLOCK, mask=key < end, other=0)
            block = tl.maximum(block, 0).to(tl.int64)
            there = (key < end)[:, None]
            key_at = keys + block * k_n + key % BLOCK * k_s + kv_head * k_h
            k = tl.load(key_at[:, None] + d[None, :] * k_d, mask=there & (d < SIZE)[None, :], other=0.0)
            value_at = values + block * v_n + key % BLOCK * v_s + kv_head * v_h
            v = tl.load(value_at[:, None] + e[None, :] * v_e, mask=there & (e < VALUE_SIZE)[None, :], other=0.0)
            x = tl.dot(own, tl.trans(k.to(own.dtype)), input_precision="ieee").to(tl.float32) * scale
            if SOFTCAP:
                # tanh(y) is 1 - 2 / (exp(2 y) + 1), which Triton has for every device.
                x = softcap * (1 - 2 / (tl.exp(2 * x / softcap) + 1))
            if TEMPERED:
                x = x * temperature[:, None]
            seen = key[None, :] <= (start + query)[:, None]
            if WINDOW:
                seen = seen & (key[None, :] > (start + query - WINDOW)[:, None])
            x = tl.where(seen, x, float("-inf"))
            before, highest = highest, tl.maximum(highest, tl.max(x, 1))
            shrink, weights = tl.exp(before - highest), tl.exp(x - highest[:, None])
            total = total * shrink + tl.sum(weights, 1)
            part = tl.dot(weights.to(own.dtype), v.to(own.dtype), input_precision="ieee")
            weighted = weighted * shrink[:, None] + part.to(tl.float32)
        tl.store(
            out + place[:, None] * o_t + head[:, None] * o_h + e[None, :] * o_e,
            (weighted / total[:, None]).to(own.dtype), mask=real[:, None] & (e < VALUE_SIZE)[None, :],
        )  # fmt: skip

    return attend
