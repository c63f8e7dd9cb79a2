"""Weights in the order in which `native/matmul.h` reads them: panels of 64 outputs, word by word of their inputs."""

import ctypes
import mmap
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.functional import pad

from troth.model.families.quantised import to_mxfp4
from troth.serve.engine.cpu.library import Matrix, load
from troth.serve.engine.cpu.quantise import GROUP, quantise

PANEL = 64
_HALF = PANEL // 2
WIDE = 2
"""The number of bfloat16 that is widened, in `native/matmul.h`."""

WeightKind = Literal["float32", "bfloat16", "int8", "int4", "mxfp4"]

_CHUNK = 1 << 26
_TILE = 1 << 19
"""Weights that are packed at a time, so few that what comes of them on the way stays in a processor's cache."""
_BITS = {"float32": 32, "bfloat16": 16, "int8": 8.5, "int4": 4.5, "mxfp4": 4.5}


@cache
def number_of(kind: WeightKind) -> int:
    """The kind's number in `native/matmul.h`; bfloat16 has two, of which one suits this processor."""
    if kind == "bfloat16":
        library = load()
        return 1 if library is not None and library.troth_pairs_are_faster() else WIDE
    return {"float32": 0, "int8": 3, "int4": 4, "mxfp4": 7}[kind]


class Arena:
    """Memory for packed weights in huge pages where the system has them: a step reads all of it once, and small pages
    would cost a look-up for every 4 KiB."""

    def __init__(self) -> None:
        self.bytes = 0
        self._chunk = np.empty(0, dtype=np.uint8)
        self._taken: list[np.ndarray] = []

    def take(self, count: int) -> torch.Tensor:
        """`count` bytes, zeroed, on a cache line, that live as long as the arena."""
        count = -(-count // 64) * 64
        if count > len(self._chunk):
            memory = mmap.mmap(-1, max(count, _CHUNK))
            if hasattr(mmap, "MADV_HUGEPAGE"):
                memory.madvise(mmap.MADV_HUGEPAGE)
            self._chunk = np.frombuffer(memory, dtype=np.uint8)
        self.bytes += count
        part, self._chunk = self._chunk[:count], self._chunk[count:]
        self._taken.append(part)
        return torch.from_numpy(part)

    def keep(self, tensor: torch.Tensor, dtype: torch.dtype) -> int:
        """Address of a copy of a tensor in `dtype`."""
        data = tensor.detach().to("cpu", dtype).contiguous()
        part = self.take(data.nbytes)
        part[: data.nbytes].copy_(data.view(-1).view(torch.uint8))
        return part.data_ptr()

    def structures(self, array: "ctypes.Array[Any]") -> int:
        """Address of a copy of structures."""
        part = self.take(ctypes.sizeof(array))
        ctypes.memmove(part.data_ptr(), array, ctypes.sizeof(array))
        return part.data_ptr()

    def matrix(self, weight_OI: torch.Tensor, kind: WeightKind, bias_O: torch.Tensor | None = None) -> Matrix:
        """A packed copy of a weight; outputs are padded to a panel and inputs to a group, with zeros."""
        outputs, inputs = weight_OI.shape
        width, rows = inputs + -inputs % GROUP, outputs + -outputs % PANEL
        part = self.take(int(rows * width * _BITS[kind] / 8))
        step, at = max(_TILE // (PANEL * width), 1) * PANEL, 0
        for tile_OI in weight_OI.detach().split(step):
            packed = _PACK[kind](pad(tile_OI, (0, width - inputs, 0, -len(tile_OI) % PANEL)))
            part[at : at + packed.nbytes].copy_(packed.view(-1).view(torch.uint8))
            at += packed.nbytes
        bias = None if bias_O is None else self.keep(pad(bias_O.detach().float(), (0, -outputs % PANEL)), torch.float32)
        return Matrix(part.data_ptr(), bias, None, number_of(kind), outputs, width, 0)


def interleaved(gate_up_2SX: torch.Tensor) -> torch.Tensor:
    """Gate and up, 32 outputs of the one, then the same 32 of the other, so that they meet in one panel."""
    padded_2SX = pad(gate_up_2SX.detach(), (0, 0, 0, -gate_up_2SX.shape[1] % _HALF))
    return padded_2SX.unflatten(1, (-1, _HALF)).transpose(0, 1).flatten(0, 2)


def _pack_float32(weight_OI: torch.Tensor) -> torch.Tensor:
    return weight_OI.float().unflatten(0, (-1, PANEL)).transpose(1, 2).contiguous()


def _pack_bfloat16(weight_OI: torch.Tensor) -> torch.Tensor:
    return weight_OI.bfloat16().view(-1, PANEL, weight_OI.shape[1] // 2, 2).transpose(1, 2).contiguous()


def _pack_int8(weight_OI: torch.Tensor) -> torch.Tensor:
    number_OI, scale_OG = quantise(weight_OI, 8)
    return _with_scales(number_OI.view(-1, PANEL, scale_OG.shape[1], 8, 4), scale_OG)


def _pack_int4(weight_OI: torch.Tensor) -> torch.Tensor:
    return _pack_halves(*quantise(weight_OI, 4))


def _pack_mxfp4(weight_OI: torch.Tensor) -> torch.Tensor:
    """Scales are of what the 4-bit floats are twice, in float16, whose powers of two begin at 2^-24."""
    code_OI, power_OG = to_mxfp4(weight_OI, least=-23, most=15)
    return _pack_halves(code_OI, torch.ldexp(torch.full(power_OG.shape, 0.5), power_OG).half())


def _pack_halves(number_OI: torch.Tensor, scale_OG: torch.Tensor) -> torch.Tensor:
    number_POGhw4 = number_OI.view(-1, PANEL, scale_OG.shape[1], 2, 4, 4)
    # The first 16 inputs of a group in the low halves of bytes, the others in the high halves.
    return _with_scales(number_POGhw4[:, :, :, 0] | (number_POGhw4[:, :, :, 1] << 4), scale_OG)


def _with_scales(bytes_POGw4: torch.Tensor, scale_OG: torch.Tensor) -> torch.Tensor:
    """Panel by panel and group by group: words of the 64 outputs, then their scales."""
    words = bytes_POGw4.permute(0, 2, 3, 1, 4).flatten(2)
    scales = scale_OG.view(-1, PANEL, scale_OG.shape[1]).transpose(1, 2).contiguous().view(torch.uint8)
    return torch.cat((words, scales), dim=-1)


_PACK = {
    "float32": _pack_float32, "bfloat16": _pack_bfloat16, "int8": _pack_int8, "int4": _pack_int4, "mxfp4": _pack_mxfp4,
}  # fmt: skip
