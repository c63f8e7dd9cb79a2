"""Attention a block of queries at a time, multiplied with the keys that it sees, and again for the gradient: the memory
of FlashAttention (2205.14135), with torch's products in place of its kernels.

torch's own fused attention bends no scores and knows no sinks, and on the CPU it is slower than plain products.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch

from troth.model.products import widens
from troth.model.scores import Scores, Seen, Span

_ROWS = 128
_BLOCK_BYTES = 2**26
"""Queries of a block, fewer where its scores would take more than so many bytes."""


def block_attention(
    q_BHTd: torch.Tensor, k_BKLd: torch.Tensor, v_BKLe: torch.Tensor, seen: Seen, scores: Scores
) -> torch.Tensor:
    """[batch, heads, queries, value size]; each of the K key heads serves H / K heads, one after the other."""
    out: torch.Tensor = _Blocks.apply(q_BHTd, k_BKLd, v_BKLe, scores.sinks, seen, scores)
    return out


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_BHTd: torch.Tensor, k_BKLd: torch.Tensor, v_BKLe: torch.Tensor, sinks: torch.Tensor | None,
        seen: Seen, scores: Scores,
    ) -> torch.Tensor:  # fmt: skip
        ctx.save_for_backward(q_BHTd, k_BKLd, v_BKLe)
        ctx.seen, ctx.scores = seen, scores
        batch, heads, queries, _ = q_BHTd.shape
        # Heads of one token beside each other, as the next product wants them.
        out_BHTe = q_BHTd.new_empty(batch, queries, heads, v_BKLe.shape[-1]).transpose(1, 2)
        q_BHTd, k_BKLd, v_BKLe = _factors(q_BHTd, k_BKLd, v_BKLe)
        keys, values = k_BKLd.flatten(0, 1), v_BKLe.flatten(0, 1)
        for block in _blocks(q_BHTd, k_BKLd.shape[1], seen, scores):
            weights = block.weights(block.products(keys))
            block.put(out_BHTe, torch.bmm(weights, block.cut(values)))
        return out_BHTe

    @staticmethod
    def backward(ctx: Any, grad_BHTe: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q_BHTd, k_BKLd, v_BKLe = ctx.saved_tensors
        dtype, scores = q_BHTd.dtype, ctx.scores
        grad_q = torch.empty_like(q_BHTd)
        q_BHTd, k_BKLd, v_BKLe = _factors(q_BHTd, k_BKLd, v_BKLe)
        keys, values = k_BKLd.flatten(0, 1), v_BKLe.flatten(0, 1)
        wide = torch.promote_types(dtype, torch.float32)
        grad_k, grad_v = torch.zeros_like(keys, dtype=wide), torch.zeros_like(values, dtype=wide)
        grad_sinks = None if scores.sinks is None else torch.zeros_like(scores.sinks)
        for block in _blocks(q_BHTd, k_BKLd.shape[1], ctx.seen, scores):
            x = block.products(keys)
            weights = block.weights(x)
            grad = block.rows_of(grad_BHTe).to(keys.dtype)
            block.cut(grad_v).add_(torch.bmm(weights.mT, grad))
            grad_weights = torch.bmm(grad, block.cut(values).mT)
            grad_x = block.backward(x, weights, grad_weights, grad_sinks)
            block.put(grad_q, torch.bmm(grad_x, block.cut(keys)).mul_(scores.scale))
            block.cut(grad_k).add_(torch.bmm(grad_x.mT, block.scaled))
        grad_k, grad_v = grad_k.to(dtype).view_as(k_BKLd), grad_v.to(dtype).view_as(v_BKLe)
        return grad_q, grad_k, grad_v, grad_sinks, None, None


def _factors(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values as they are best multiplied here; what is kept for the gradient stays narrow."""
    return tuple(part.float() for part in parts) if widens(parts[0]) else parts


def _blocks(q_BHTd: torch.Tensor, kv_heads: int, seen: Seen, scores: Scores) -> "Iterator[_Block]":
    batch, heads, queries, _ = q_BHTd.shape
    fitting = _BLOCK_BYTES // (q_BHTd.itemsize * batch * heads * seen.keys)
    rows = max(1, min(_ROWS, queries, fitting))
    for i, span in enumerate(seen.spans(rows)):
        yield _Block(q_BHTd, kv_heads, i * rows, rows, span, seen, scores)


class _Block:
    """`rows` queries from `start` on, [batch * K, heads / K * rows, ...]: heads of one key lie below each other."""

    def __init__(
        self, q_BHTd: torch.Tensor, kv_heads: int, start: int, rows: int, span: Span, seen: Seen, scores: Scores
    ):
        self.span, self.seen, self.scores, self.kv_heads = span, seen, scores, kv_heads
        self.place = slice(start, min(start + rows, q_BHTd.shape[2]))
        self.queries = q_BHTd

    @cached_property
    def scaled(self) -> torch.Tensor:
        return self.rows_of(self.queries) * self.scores.scale

    def cut(self, x_NLd: torch.Tensor) -> torch.Tensor:
        """What of keys or values this block sees."""
        return x_NLd[:, self.span.first : self.span.end]

    def rows_of(self, x_BHTd: torch.Tensor) -> torch.Tensor:
        x_BHrd = x_BHTd[:, :, self.place]
        batch, heads, rows, size = x_BHrd.shape
        return x_BHrd.reshape(batch * self.kv_heads, heads // self.kv_heads * rows, size)

    def put(self, x_BHTd: torch.Tensor, rows: torch.Tensor) -> None:
        x_BHrd = x_BHTd[:, :, self.place]
        x_BHrd.copy_(rows.view(x_BHrd.shape))

    def products(self, keys: torch.Tensor) -> torch.Tensor:
        """Scores before anything is done to them but scaling."""
        return torch.bmm(self.scaled, self.cut(keys).mT)

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """The softmax over what is seen; without a softcap or temperature, `x` is masked in place."""
        scores, shape = self.scores, x.shape
        if scores.softcap is not None:
            x = scores.softcap * torch.tanh(x / scores.softcap)
        x_BHrL = self._headed(x)
        if scores.temperature is not None:
            x_BHrL = x_BHrL * self._of_rows(scores.temperature).to(x.dtype)
        first, end, clear = self.span
        x_BHrL[..., clear:].add_(self.seen.hidden(self.place, first + clear, end, x.dtype))
        if scores.sinks is None:
            return torch.softmax(x_BHrL, dim=-1).view(shape)
        sinks = self._of_rows(scores.sinks).to(x.dtype).expand(*x_BHrL.shape[:-1], 1)
        return torch.softmax(torch.cat((x_BHrL, sinks), dim=-1), dim=-1)[..., :-1].reshape(shape)

    def backward(
        self, x: torch.Tensor, weights: torch.Tensor, grad: torch.Tensor, grad_sinks: torch.Tensor | None
    ) -> torch.Tensor:
        """The gradient of `products`, given that of the weights; that of the sinks is added to theirs."""
        scores = self.scores
        if scores.sinks is None:
            grad = torch._softmax_backward_data(grad, weights, -1, weights.dtype)
        else:
            assert grad_sinks is not None
            # The sink takes what is left of the weight, and has no value: its score gains what the others' mean loses.
            mean = (grad * weights).sum(-1, keepdim=True)
            grad = weights * (grad - mean)
            of_sinks = self._headed(mean * (weights.sum(-1, keepdim=True) - 1))
            grad_sinks += of_sinks.sum_to_size(self._of_rows(scores.sinks).shape).sum_to_size(grad_sinks.shape)
        if scores.temperature is not None:
            grad = (self._headed(grad) * self._of_rows(scores.temperature).to(grad.dtype)).view_as(grad)
        if scores.softcap is not None:
            grad = grad * (1 - torch.tanh(x / scores.softcap).square())
        return grad

    def _headed(self, x: torch.Tensor) -> torch.Tensor:
        """[batch * K, heads / K * rows, L] -> [batch, heads, rows, L]."""
        return x.view(len(self.queries), self.queries.shape[1], -1, x.shape[-1])

    def _of_rows(self, part: torch.Tensor) -> torch.Tensor:
        return part if part.shape[-2] == 1 else part[..., self.place, :]
