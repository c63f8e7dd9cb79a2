"""Products of activations and weights, of one matrix or of many experts' stacked ones.

Many processors multiply bf16 slower than float32: all without instructions for it, and some that have them. There the
factors are widened, an expert at a time, and the result is rounded once; in memory everything stays bf16.

Where bf16 is the faster one, oneDNN compiles a program for each shape that it meets and keeps a thousand of them. How
many rows go to an expert is new in every step, and compiling took a quarter of it: experts' products here have one of
a few heights.
"""

import math
import time
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.functional import grouped_mm, pad

_FEW_ROWS, _FEWER_ROWS = 64, 4
"""With fewer, a product takes as long as reading its weight does, and widening would only add to that; the second where
oneDNN has no bf16, as on processors of AVX2 alone, and torch's own loops are ten to seventy times as slow."""
_LEAST_ROWS = 16
"""To which the rows of an expert's product are rounded up; those of more than 512 to a 32nd of the next power of 2."""
_CLEARLY = 1.25
"""How much faster float32 has to be, so that noise in the timing decides nothing."""


@cache
def float32_over_bf16(device: str) -> float:
    """How many times as fast as bf16 products float32 ones are on this device; timed once.

    On a CPU it is one thread's own time that counts, which other programs hardly change: what is decided by it, and so
    the rounding, has to be the same in every run.
    """
    clock = time.thread_time if device == "cpu" else time.perf_counter
    matrices = [torch.ones(512, 512, dtype=dtype, device=device) for dtype in (torch.bfloat16, torch.float32)]
    best = [math.inf, math.inf]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(7):
            for kind, x in enumerate(matrices):
                start = clock()
                (x @ x.T).sum().item()
                best[kind] = min(best[kind], clock() - start)
    finally:
        torch.set_num_threads(threads)
    return best[0] / best[1]


def widens(x: torch.Tensor) -> bool:
    """Whether products with `x` [..., rows, size] are better done in float32."""
    if not _bf16_on_cpu(x):
        return False
    few = _FEW_ROWS if onednn_has_bf16() else _FEWER_ROWS
    return x.numel() >= few * x.shape[-1] and float32_over_bf16("cpu") > _CLEARLY


@cache
def onednn_has_bf16() -> bool:
    """Whether a CPU's products in bf16 are oneDNN's, which no processor of AVX2 alone has."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _bf16_on_cpu(x: torch.Tensor) -> bool:
    """Whether `x` holds such numbers itself, and neither fakes them nor shares them out over ranks."""
    return type(x) in (torch.Tensor, nn.Parameter) and x.device.type == "cpu" and x.dtype == torch.bfloat16


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by `linear`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: torch.Tensor, w_OI: torch.Tensor, bias_O: torch.Tensor | None = None) -> torch.Tensor:
    """`torch.nn.functional.linear`: [..., in] -> [..., out]."""
    if not widens(x) or type(w_OI) not in (torch.Tensor, nn.Parameter):
        return nn.functional.linear(x, w_OI, bias_O)
    y_MO: torch.Tensor = _Widened.apply(x.flatten(0, -2), w_OI[None], [x.numel() // x.shape[-1]])
    y = y_MO.view(*x.shape[:-1], -1)
    return y if bias_O is None else y + bias_O


def grouped(x_MI: torch.Tensor, w_EOI: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
    """Rows, `counts_E` to each expert in order, times its matrix: [rows, out]. float64, which grouped_mm refuses, takes
    a loop; rows that are no multiple of 16 bytes, which it refuses too, are filled up with zeros."""
    if x_MI.dtype == torch.float64:
        rows = x_MI.split(counts_E.tolist())
        return torch.cat([row @ weight.T for row, weight in zip(rows, w_EOI, strict=True)])
    if _bf16_on_cpu(x_MI):
        way = _Widened if widens(x_MI) else _FewShapes
        y_MO: torch.Tensor = way.apply(x_MI, w_EOI, counts_E.tolist())
        return y_MO
    ends_E = counts_E.cumsum(0).int()
    more_out, more_in = (-size % (16 // x_MI.element_size()) for size in w_EOI.shape[1:])
    if more_out or more_in:
        wide_EIO = pad(w_EOI, (0, more_in, 0, more_out)).mT
        return grouped_mm(pad(x_MI, (0, more_in)), wide_EIO, offs=ends_E)[:, : w_EOI.shape[1]]
    return grouped_mm(x_MI, w_EOI.mT, offs=ends_E)


class _Widened(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MI: torch.Tensor, w_EOI: torch.Tensor, counts: list[int]) -> torch.Tensor:
        ctx.save_for_backward(x_MI, w_EOI)
        ctx.counts = counts
        y_MO = x_MI.new_empty(sum(counts), w_EOI.shape[1])
        for y, x, w in zip(y_MO.split(counts), x_MI.split(counts), w_EOI, strict=True):
            if len(x):
                y.copy_(x.float() @ w.float().T)
        return y_MO

    @staticmethod
    def backward(ctx: Any, grad_MO: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x_MI, w_EOI = ctx.saved_tensors
        to_x = torch.empty_like(x_MI) if ctx.needs_input_grad[0] else None
        to_w = torch.zeros_like(w_EOI) if ctx.needs_input_grad[1] else None
        start = 0
        for expert, count in enumerate(ctx.counts):
            rows = slice(start, start + count)
            start += count
            if not count:
                continue
            grad = grad_MO[rows].float()
            if to_x is not None:
                to_x[rows] = grad @ w_EOI[expert].float()
            if to_w is not None:
                to_w[expert] = grad.T @ x_MI[rows].float()
        return to_x, to_w, None


class _FewShapes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_MI: torch.Tensor, w_EOI: torch.Tensor, counts: list[int]) -> torch.Tensor:
        ctx.save_for_backward(x_MI, w_EOI)
        ctx.counts = counts
        return rows_times(x_MI, w_EOI.mT, counts)

    @staticmethod
    def backward(ctx: Any, grad_MO: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x_MI, w_EOI = ctx.saved_tensors
        grad_MO = grad_MO.contiguous()
        to_x = rows_times(grad_MO, w_EOI, ctx.counts) if ctx.needs_input_grad[0] else None
        to_w = _to_weights(grad_MO, x_MI, ctx.counts) if ctx.needs_input_grad[1] else None
        return to_x, to_w, None


def _windows(counts: list[int]) -> list[tuple[int, int, int, int]]:
    """Of each expert that has rows: which it is, its first row, how many it has, and how many its product takes."""
    windows, start = [], 0
    for expert, count in enumerate(counts):
        step = max(_LEAST_ROWS, 1 << (count - 1).bit_length() >> 5)
        if count:
            windows.append((expert, start, count, -(-count // step) * step))
        start += count
    return windows


@torch.library.custom_op("troth::rows_times", mutates_args=())
def rows_times(x_MI: torch.Tensor, w_EIO: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Each expert's rows times its matrix; one operation, so that selective recomputation can keep its result.

    What a product makes of rows of the next expert, that one's own then replaces.
    """
    windows = _windows(counts)
    end = max((start + height for _, start, _, height in windows), default=0)
    y_MO = x_MI.new_empty(end, w_EIO.shape[-1])
    for expert, start, _, height in windows:
        torch.mm(_window(x_MI, start, height), w_EIO[expert], out=y_MO[start : start + height])
    return y_MO[: len(x_MI)]


def _to_weights(grad_MO: torch.Tensor, x_MI: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """The gradient of each expert's matrix, [experts, out, in]."""
    to_w_EOI = x_MI.new_empty(len(counts), grad_MO.shape[1], x_MI.shape[1])
    for expert, count in enumerate(counts):
        if not count:
            to_w_EOI[expert] = 0
    narrow_grad = grad_MO.shape[1] < x_MI.shape[1]
    for expert, start, count, height in _windows(counts):
        # Rows that are another's meet zeros in the other factor: the one that is less to copy.
        grad, x = (
            pad(part[start : start + count], (0, 0, 0, height - count)) if padded else _window(part, start, height)
            for part, padded in ((grad_MO, narrow_grad), (x_MI, not narrow_grad))
        )
        torch.mm(grad.T, x, out=to_w_EOI[expert])
    return to_w_EOI


def _window(x_MI: torch.Tensor, start: int, height: int) -> torch.Tensor:
    """So many rows from `start` on; past the end they are zero."""
    x = x_MI[start : start + height]
    return x if len(x) == height else pad(x, (0, 0, 0, height - len(x)))
