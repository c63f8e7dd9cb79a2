"""Keys and values of all sequences in blocks of fixed size, and attention over them for one step.

Paged attention after Kwon et al. (2309.06180), with torch's own attention over gathered blocks.
"""

from collections import defaultdict
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from troth.model.config import ModelConfig


class Span(Protocol):
    """`count` tokens of one sequence from position `start` on; position p lives in block `blocks[p // block_size]`."""

    @property
    def start(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def blocks(self) -> list[int]: ...


class KVCache:
    """Room for `blocks` blocks of tokens in every layer, [layers, blocks, block_size, kv heads, head_dim]."""

    def __init__(self, config: ModelConfig, blocks: int, block_size: int, dtype: torch.dtype, device: torch.device):
        self.config = config
        self.block_size = block_size
        self.device = device
        shape = config.num_hidden_layers, blocks, block_size, config.num_key_value_heads, config.head_dim
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def bytes(self) -> int:
        """Memory of keys and values together."""
        return self.keys.nbytes + self.values.nbytes

    def attend(self, spans: Items[Span]) -> "StepAttention":
        """The `Attend` of a step whose tokens are those of `spans`, one after the other in a batch of one row."""
        return StepAttention(self, spans)


@dataclass(frozen=True)
class _Group:
    """Spans of one length whose keys are gathered together: S spans of Q queries over L gathered positions.

    `rows_N` (N = S*Q) are their places in the step, None for all in order; `mask_S1QL` says which keys each sees.
    """

    spans: int
    rows_N: torch.Tensor | None
    blocks_N: torch.Tensor
    mask_S1QL: torch.Tensor


class StepAttention:
    """Stores the step's keys and values, then lets each query attend to its sequence up to itself.

    Sliding layers see the last `sliding_window` tokens, the token itself included.
    """

    def __init__(self, cache: KVCache, spans: Items[Span]):
        size = cache.block_size
        slots = []
        for span in spans:
            positions = np.arange(span.start, span.start + span.count)
            first = span.start // size
            table = np.asarray(span.blocks[first : (span.start + span.count - 1) // size + 1])
            slots.append(table[positions // size - first] * size + positions % size)
        self.cache = cache
        self.slots_T = torch.from_numpy(np.concatenate(slots)).to(cache.device)
        self.groups = {
            "full_attention": _groups(cache, spans, None),
            "sliding_attention": _groups(cache, spans, cache.config.window),
        }

    def __call__(self, layer: int, q_BHTd: torch.Tensor, k_BKTd: torch.Tensor, v_BKTd: torch.Tensor) -> torch.Tensor:
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        keys.flatten(0, 1).index_copy_(0, self.slots_T, k_BKTd[0].transpose(0, 1).to(keys.dtype))
        values.flatten(0, 1).index_copy_(0, self.slots_T, v_BKTd[0].transpose(0, 1).to(values.dtype))
        q_HTd = q_BHTd[0]
        out_HTd = torch.empty_like(q_HTd)
        for group in self.groups[self.cache.config.layer_type(layer)]:
            q_HNd = q_HTd if group.rows_N is None else q_HTd.index_select(1, group.rows_N)
            out_HNd = _attend(group, q_HNd, keys, values)
            if group.rows_N is None:
                return out_HNd[None]
            out_HTd.index_copy_(1, group.rows_N, out_HNd)
        return out_HTd[None]


def _attend(group: _Group, q_HNd: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Queries of a group against its gathered blocks, [heads, N, head_dim] to the same."""
    heads, _, head_dim = q_HNd.shape
    kv_heads = keys.shape[2]
    q_SHQd = q_HNd.reshape(heads, group.spans, -1, head_dim).transpose(0, 1)
    k_SKLd = keys.index_select(0, group.blocks_N).view(group.spans, -1, kv_heads, head_dim).transpose(1, 2)
    v_SKLd = values.index_select(0, group.blocks_N).view(group.spans, -1, kv_heads, head_dim).transpose(1, 2)
    if q_SHQd.shape[2] == 1:
        # Heads that share keys stand in for time, so that keys need not be repeated for each of them.
        q_SKGd = q_SHQd.reshape(group.spans, kv_heads, -1, head_dim)
        out_SHQd = scaled_dot_product_attention(q_SKGd, k_SKLd, v_SKLd, attn_mask=group.mask_S1QL).reshape(q_SHQd.shape)
    else:
        out_SHQd = scaled_dot_product_attention(q_SHQd, k_SKLd, v_SKLd, attn_mask=group.mask_S1QL, enable_gqa=True)
    return out_SHQd.transpose(0, 1).reshape(q_HNd.shape)


def _groups(cache: KVCache, spans: Items[Span], window: int | None) -> list[_Group]:
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
            table[line, : ends[line] - first] = spans[place].blocks[first : ends[line]]
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
                mask_S1QL=torch.from_numpy(mask_SQL[:, None]).to(cache.device),
            )
        )
    return groups
