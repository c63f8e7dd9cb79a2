"""Keys and values of all sequences in blocks of fixed size, and attention over them for one step.

Paged attention after Kwon et al. (2309.06180), with torch's own attention over gathered blocks, or on a GPU by a
kernel that gathers nothing.
"""

from collections import defaultdict
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import torch

from troth.model.attention import Attend, attention
from troth.model.config import ModelConfig
from troth.model.scores import Scores, Seen
from troth.serve.engine.kv_quantise import STORED, KVCacheDtype, dequantise_rows, quantise_rows


class Span(Protocol):
    """`count` tokens of one sequence from position `start` on. Position p lives in block `blocks[p // block_size]` and,
    for layers with a window, in `sliding_blocks[p // block_size]`, which is -1 where nobody sees it any more."""

    @property
    def start(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def blocks(self) -> list[int]: ...
    @property
    def sliding_blocks(self) -> list[int]: ...


class KVCache:
    """Room for `blocks` blocks of tokens in every layer that sees everything and `sliding_blocks` in every layer with a
    window: `keys[layer]` and `values[layer]` are [blocks, block_size, kv heads, size].

    With latent attention one key stands for all heads, and its beginning is the value: `values` have size 0. `extra`
    layers follow the decoder's own. With a `kind` other than `auto`, which is `dtype`, numbers are kept in 8 bit beside
    `key_scales[layer]` and `value_scales[layer]`, float32 [blocks, block_size, kv heads, parts]: one for each head, and
    for a latent key one for its latent and one for its turned part.
    """

    def __init__(
        self, config: ModelConfig, blocks: int, sliding_blocks: int, block_size: int, dtype: torch.dtype,
        device: torch.device, extra: int = 0, kind: KVCacheDtype = "auto",
    ):  # fmt: skip
        self.config = config
        self.block_size = block_size
        self.dtype, self.device, self.kind = dtype, device, kind
        heads, key_size, value_size = config.cache_shape
        latent = config.latent
        self._key_parts = (latent.kv_lora_rank, latent.qk_rope_head_dim) if latent else (key_size,)
        self._value_parts = (value_size,) if value_size else ()
        counts = {"full_attention": blocks, "sliding_attention": sliding_blocks}
        kinds = [config.layer_type(layer) for layer in range(config.num_hidden_layers + extra)]

        def room(size: int, dtype: torch.dtype) -> list[torch.Tensor]:
            return [torch.zeros(counts[kind], block_size, heads, size, dtype=dtype, device=device) for kind in kinds]

        stored = dtype if kind == "auto" else STORED[kind]
        self.keys, self.values = room(key_size, stored), room(value_size, stored)
        self.key_scales, self.value_scales = (
            [] if kind == "auto" else room(len(parts), torch.float32) for parts in (self._key_parts, self._value_parts)
        )

    @property
    def bytes(self) -> int:
        """Memory of keys and values together, with their scales."""
        parts = (*self.keys, *self.values, *self.key_scales, *self.value_scales)
        return sum(tensor.nbytes for tensor in parts)

    def store(self, layer: int, slots_T: torch.Tensor, k_KTd: torch.Tensor, v_KTe: torch.Tensor) -> None:
        """Put keys and values of tokens into their places."""
        self._put(self.keys, self.key_scales, layer, slots_T, k_KTd.transpose(0, 1), self._key_parts)
        if self._value_parts:
            self._put(self.values, self.value_scales, layer, slots_T, v_KTe.transpose(0, 1), self._value_parts)

    def read(self, layer: int, blocks_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values in these blocks of a layer, [N, block_size, kv heads, size]."""
        keys = self._get(self.keys, self.key_scales, layer, blocks_N, self._key_parts)
        if self.config.latent:
            return keys, keys[..., : self.config.latent.kv_lora_rank]
        return keys, self._get(self.values, self.value_scales, layer, blocks_N, self._value_parts)

    @property
    def pages(self) -> bool:
        """Whether attention reads keys and values where they lie (see `paged_attention`), and does not gather them."""
        plain = self.kind == "auto" and self.dtype != torch.float64
        return plain and self.device.type == "cuda" and find_spec("triton") is not None

    def attend(self, spans: Items[Span]) -> Attend:
        """The `Attend` of a step whose tokens are those of `spans`, one after the other in a batch of one row."""
        if self.pages:
            from troth.serve.engine.paged_attention import PagedAttention, Pages

            return PagedAttention(self, Pages.of(self, spans))
        return StepAttention(self, spans)

    def _put(
        self, all_of: list[torch.Tensor], scales: list[torch.Tensor], layer: int, slots_T: torch.Tensor,
        x_TKd: torch.Tensor, parts: tuple[int, ...],
    ) -> None:  # fmt: skip
        if self.kind == "auto":
            all_of[layer].flatten(0, 1).index_copy_(0, slots_T, x_TKd.to(self.dtype))
            return
        number_TKd, scale_TKp = quantise_rows(x_TKd, self.kind, parts)
        _as_bytes(all_of[layer]).flatten(0, 1).index_copy_(0, slots_T, _as_bytes(number_TKd))
        scales[layer].flatten(0, 1).index_copy_(0, slots_T, scale_TKp)

    def _get(
        self, all_of: list[torch.Tensor], scales: list[torch.Tensor], layer: int, blocks_N: torch.Tensor,
        parts: tuple[int, ...],
    ) -> torch.Tensor:  # fmt: skip
        if self.kind == "auto":
            return all_of[layer].index_select(0, blocks_N)
        numbers = _as_bytes(all_of[layer]).index_select(0, blocks_N).view(STORED[self.kind])
        return dequantise_rows(numbers, scales[layer].index_select(0, blocks_N), parts, self.dtype)


def _as_bytes(numbers: torch.Tensor) -> torch.Tensor:
    """Not every device copies 8-bit floats by index."""
    return numbers.view(torch.uint8)


@dataclass(frozen=True)
class _Group:
    """Spans of one length whose keys are gathered together: S spans of Q queries over L gathered positions.

    `rows_N` (N = S*Q) are their places in the step, None for all in order; `seen` says which keys each sees.
    """

    spans: int
    rows_N: torch.Tensor | None
    blocks_N: torch.Tensor
    seen: Seen


class StepAttention:
    """Stores the step's keys and values, then lets each query attend to its sequence up to itself.

    Sliding layers see the last `sliding_window` tokens, the token itself included.
    """

    keeps = True

    def __init__(self, cache: KVCache, spans: Items[Span]):
        self.cache = cache
        full = [span.blocks for span in spans]
        self.slots = {"full_attention": slots(cache, spans, full)}
        self.groups = {"full_attention": _groups(cache, spans, full, None)}
        if cache.config.slides:
            sliding = [span.sliding_blocks for span in spans]
            self.slots["sliding_attention"] = slots(cache, spans, sliding)
            self.groups["sliding_attention"] = _groups(cache, spans, sliding, cache.config.window)

    def __call__(
        self, layer: int, q_BHTd: torch.Tensor, k_BKTd: torch.Tensor, v_BKTe: torch.Tensor, scores: Scores
    ) -> torch.Tensor:
        kind = self.cache.config.layer_type(layer)
        self.cache.store(layer, self.slots[kind], k_BKTd[0], v_BKTe[0])
        q_HTd = q_BHTd[0]
        out_HTe = q_HTd.new_empty(*q_HTd.shape[:2], v_BKTe.shape[-1])
        for group in self.groups[kind]:
            q_HNd = q_HTd if group.rows_N is None else q_HTd.index_select(1, group.rows_N)
            out_HNe = _attend(group, q_HNd, *self.cache.read(layer, group.blocks_N), scores)
            if group.rows_N is None:
                return out_HNe[None]
            out_HTe.index_copy_(1, group.rows_N, out_HNe)
        return out_HTe[None]


def slots(cache: KVCache, spans: Items[Span], tables: Items[list[int]]) -> torch.Tensor:
    """Where the tokens of spans live among all places of a layer, [tokens], by the block table of each."""
    size = cache.block_size
    found = []
    for span, blocks in zip(spans, tables, strict=True):
        positions = np.arange(span.start, span.start + span.count)
        first = span.start // size
        table = np.asarray(blocks[first : (span.start + span.count - 1) // size + 1])
        found.append(table[positions // size - first] * size + positions % size)
    return torch.from_numpy(np.concatenate(found)).to(cache.device)


def _attend(
    group: _Group, q_HNd: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scores: Scores
) -> torch.Tensor:
    """Queries of a group against what its blocks hold, [heads, N, size of a key] to [heads, N, size of a value]."""
    heads, rows, _ = q_HNd.shape
    kv_heads = keys.shape[2]
    q_SHQd = q_HNd.unflatten(1, (group.spans, -1)).transpose(0, 1)
    k_SKLd = keys.unflatten(0, (group.spans, -1)).flatten(1, 2).transpose(1, 2)
    v_SKLe = values.unflatten(0, (group.spans, -1)).flatten(1, 2).transpose(1, 2)
    if scores.temperature is not None:
        of_rows = scores.temperature if group.rows_N is None else scores.temperature.index_select(2, group.rows_N)
        scores = replace(scores, temperature=of_rows.view(group.spans, 1, -1, 1))
    if q_SHQd.shape[2] == 1:
        # Heads that share keys stand in for time, so that keys need not be repeated for each of them.
        if scores.sinks is not None:
            scores = replace(scores, sinks=scores.sinks.view(1, kv_heads, -1, 1))
        q_SKGd = q_SHQd.reshape(group.spans, kv_heads, -1, q_HNd.shape[-1])
        out_SKGe = attention(q_SKGd, k_SKLd, v_SKLe, group.seen, scores)
        out_SHQe = out_SKGe.reshape(group.spans, heads, 1, -1)
    else:
        out_SHQe = attention(q_SHQd, k_SKLd, v_SKLe, group.seen, scores)
    return out_SHQe.transpose(0, 1).reshape(heads, rows, -1)


def _groups(cache: KVCache, spans: Items[Span], tables: Items[list[int]], window: int | None) -> list[_Group]:
    """Spans with as many queries and about as many keys (within a factor of two, short ones together)."""
    size = cache.block_size
    members: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
    row = 0
    for place, span in enumerate(spans):
        oldest = 0 if window is None else max(0, span.start - window + 1)
        first, end = oldest // size, -(-(span.start + span.count) // size)
        members[span.count, max(end - first, 16).bit_length()].append((place, row, first))
        row += span.count
    groups = []
    for (count, _), group in members.items():
        starts = np.array([spans[place].start for place, _, _ in group])
        firsts = np.array([first for _, _, first in group])
        ends = -(-(starts + count) // size)
        table = np.zeros((len(group), int((ends - firsts).max())), dtype=np.int64)
        for line, (place, _, first) in enumerate(group):
            table[line, : ends[line] - first] = tables[place][first : ends[line]]
        rows = None
        if len(members) > 1:
            rows = (np.array([row for _, row, _ in group])[:, None] + np.arange(count)).ravel()
        queries_SQ1 = (starts[:, None] + np.arange(count))[:, :, None]
        keys_S1L = (firsts[:, None] * size + np.arange(table.shape[1] * size))[:, None, :]
        mask_SQL = keys_S1L <= queries_SQ1
        if window is not None:
            mask_SQL &= keys_S1L > queries_SQ1 - window
        groups.append(
            _Group(
                spans=len(group),
                rows_N=None if rows is None else torch.from_numpy(rows).to(cache.device),
                blocks_N=torch.from_numpy(table.ravel()).to(cache.device),
                seen=Seen(torch.from_numpy(mask_SQL[:, None]).to(cache.device)),
            )
        )
    return groups
