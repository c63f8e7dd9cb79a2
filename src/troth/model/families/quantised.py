"""Weights in the formats that DeepSeek-V3 and gpt-oss were released in, widened to what a network computes with.

DeepSeek-V3 (2412.19437, section 3.3): 8-bit floats, one scale for each block of 128 x 128. gpt-oss: MXFP4 (OCP
Microscaling Formats 1.0, section 5.3.3), 4-bit floats in runs of 32, each with a power of two.
"""

import torch

from troth.model.families.family import FP8_BLOCK

_HALF = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""What the numbers of one sign stand for in 4 bits: one of exponent's two bits, and one of the fraction."""


def from_fp8(weight_OI: torch.Tensor, scale_oi: torch.Tensor) -> torch.Tensor:
    """[out, in] in float8 times its scales [out / 128, in / 128], both rounded up; float32."""
    rows, columns = weight_OI.shape
    scale_OI = scale_oi.float().repeat_interleave(FP8_BLOCK, 0).repeat_interleave(FP8_BLOCK, 1)
    return weight_OI.float() * scale_OI[:rows, :columns]


def from_mxfp4(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Bytes [..., runs, 16], two numbers in each (the low half first), and exponents [..., runs] biased by 127, to
    float32 [..., runs * 32]."""
    values = torch.tensor(_HALF + tuple(-x for x in _HALF), device=blocks.device)
    pairs = torch.stack((blocks & 15, blocks >> 4), dim=-1)
    numbers = values[pairs.int()].flatten(-2)
    return torch.ldexp(numbers, scales[..., None].int() - 127).flatten(-2)
