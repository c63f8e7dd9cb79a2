"""What attention computes: which keys each query sees, and what becomes of their scores before the softmax.

Scores are bent below a bound (Gemma 2, 2408.00118, section 2, and Grok-1), sharpened with the position (Grok-2), or
joined by a learned sink (gpt-oss). `blocks` and `flex` multiply.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch.nn.attention.flex_attention import BlockMask
from torch.nn.functional import pad

_HIDDEN_BYTES = 2**28
"""Of what hides keys, kept from layer to layer."""
_ALIGNED = 32
"""Of how many keys the first that are clear to all are a multiple."""
_FLEX = 128
"""Queries and keys of a block of `BlockMask`."""


@dataclass(frozen=True)
class Scores:
    """What becomes of scores: times `scale`, bent below `softcap`, times `temperature`, with `sinks` beside them.

    `temperature` and `sinks` broadcast to [batch, heads, queries, 1].
    """

    scale: float
    softcap: float | None = None
    temperature: torch.Tensor | None = None
    sinks: torch.Tensor | None = None


class Span(NamedTuple):
    """The keys `first` to `end` that a block of queries sees some of, the first `clear` of them all."""

    first: int
    end: int
    clear: int


class Seen:
    """Which keys each query sees, [batch, 1, queries, keys], and block by block between which they lie."""

    def __init__(self, mask_B1TL: torch.Tensor):
        self.mask = mask_B1TL
        self.keys = mask_B1TL.shape[-1]
        self._spans: dict[int, list[Span]] = {}
        self._hidden: dict[tuple[int | torch.dtype, ...], torch.Tensor] = {}

    def part(self, queries: slice, first: int, end: int) -> torch.Tensor:
        """The mask of some queries and the keys `first` to `end`."""
        return self.mask[:, :, queries, first:end]

    def hidden(self, queries: slice, first: int, end: int, dtype: torch.dtype) -> torch.Tensor:
        """What hides those of the keys `first` to `end` that queries do not see when it is added to their scores."""
        place = queries.start, queries.stop, first, end, dtype
        if place in self._hidden:
            return self._hidden[place]
        seen = self.part(queries, first, end)
        hidden = torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, float("-inf"))
        # All layers add the same. But rows whose documents begin apart may need as much as all scores, and so is it
        # where spans are not known: there they are made for each layer again.
        kept = sum(other.nbytes for other in self._hidden.values())
        if seen.device.type == "cpu" and kept + hidden.nbytes <= _HIDDEN_BYTES:
            self._hidden[place] = hidden
        return hidden

    def spans(self, rows: int) -> list[Span]:
        """One for each block of `rows` queries; every block sees a key at least."""
        if rows not in self._spans:
            self._spans[rows] = self.find_spans(rows)
        return self._spans[rows]

    def find_spans(self, rows: int) -> list[Span]:
        """`spans`, which waits for the device."""
        return [_span(block) for block in self.mask.flatten(0, 1).split(rows, dim=1)]


class SeenBetween(Seen):
    """Queries that see the keys from `low` [batch, queries] to `high` [queries], both included: what documents and
    windows leave of causal attention. The mask, which is as large as all scores, exists only where it is asked for.

    A GPU is not waited for: there every block of queries is taken to see some of all keys."""

    def __init__(self, low_BQ: torch.Tensor, high_Q: torch.Tensor, keys: int):
        self.low, self.high, self.keys = low_BQ, high_Q, keys
        self._spans = {}
        self._hidden = {}

    @cached_property
    def mask(self) -> torch.Tensor:  # type: ignore[override]
        return self.part(slice(None), 0, self.keys)

    def part(self, queries: slice, first: int, end: int) -> torch.Tensor:
        key_L = torch.arange(first, end, device=self.low.device)
        return ((key_L >= self.low[:, queries, None]) & (key_L <= self.high[queries, None]))[:, None]

    def find_spans(self, rows: int) -> list[Span]:
        if self.low.device.type != "cpu":
            return [Span(0, self.keys, 0) for _ in self.high.split(rows)]
        lows, highs = self.low.split(rows, dim=1), self.high.split(rows)
        borders = [
            torch.stack((low.min(), low.max(), high.min(), high.max())) for low, high in zip(lows, highs, strict=True)
        ]
        spans = []
        for first, last, least, most in torch.stack(borders).tolist():
            clear = max(0, least + 1 - first) if first == last else 0
            # Adding to columns that begin at such a place is thrice as fast.
            spans.append(Span(first, most + 1, clear // _ALIGNED * _ALIGNED))
        return spans

    @cached_property
    def block_mask(self) -> BlockMask:
        """The blocks of keys that each block of queries sees, all or some of one; a GPU is not waited for."""
        low_BQ, high_Q = self.low, self.high
        rest = -len(high_Q) % _FLEX

        def least_of_blocks(x_BQ: torch.Tensor) -> torch.Tensor:
            return pad(x_BQ, (0, rest), value=self.keys).unflatten(1, (-1, _FLEX)).amin(2, keepdim=True)

        def most_of_blocks(x_BQ: torch.Tensor) -> torch.Tensor:
            return pad(x_BQ, (0, rest), value=-1).unflatten(1, (-1, _FLEX)).amax(2, keepdim=True)

        begin_N = torch.arange(0, self.keys, _FLEX, device=low_BQ.device)
        end_N = begin_N + _FLEX
        high_1Q = high_Q[None]
        some = (end_N > least_of_blocks(low_BQ)) & (begin_N <= most_of_blocks(high_1Q))
        whole = (begin_N >= most_of_blocks(low_BQ)) & (end_N <= least_of_blocks(high_1Q) + 1)

        def sees(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
            return (key >= low_BQ[row, query]) & (key <= high_Q[query])

        return BlockMask.from_kv_blocks(
            *_listed(some & ~whole), *_listed(whole), BLOCK_SIZE=_FLEX, mask_mod=sees,
            seq_lengths=(len(high_Q), self.keys),
        )  # fmt: skip


def _listed(blocks_BMN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How many of each row's blocks are set, [batch, 1, M], and their numbers, [batch, 1, M, N], before the others."""
    order = blocks_BMN.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return blocks_BMN.sum(-1, dtype=torch.int32)[:, None], order.to(torch.int32)[:, None]


def _span(mask_BrL: torch.Tensor) -> Span:
    some = mask_BrL.any(0).any(0).nonzero()[:, 0]
    first, end = (int(some[0]), int(some[-1]) + 1) if len(some) else (0, 1)
    hidden = (~mask_BrL[..., first:end].all(0).all(0)).nonzero()[:, 0]
    return Span(first, end, int(hidden[0]) if len(hidden) else end - first)
