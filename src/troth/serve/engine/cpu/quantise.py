"""Weights in 8 and 4 bit: groups of 32 inputs of one output share a float16 scale (the layout of GGML's q8_0 and q4_0:
8.5 and 4.5 bits a weight). MXFP4, the 4-bit floats of gpt-oss, are kept so, too."""

from typing import Literal

import torch

GROUP = 32

Bits = Literal[8, 4]
_CODES = [sum(quarters > border for border in (1, 3, 5, 7, 10, 14, 20)) for quarters in range(33)]
"""Of 0, 0.5, 1, 1.5, 2, 3, 4 and 6 which is nearest, by a number's quarters, rounded up."""


def quantise(weight_OI: torch.Tensor, bits: Bits) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers without a sign, uint8 [outputs, inputs], and scales, float16 [outputs, inputs / 32].

    A weight is (number - 128) * scale with 8 bits, (number - 8) * scale with 4. Raises ValueError where 32 does not
    divide the inputs.
    """
    if weight_OI.shape[-1] % GROUP:
        raise ValueError(f"{bits}-bit weights need inputs in multiples of {GROUP}, not {weight_OI.shape[-1]}")
    weight_OGg = weight_OI.float().unflatten(-1, (-1, GROUP))
    most_OG1 = weight_OGg.abs().max(-1, keepdim=True)
    if bits == 8:
        scale_OG1 = (most_OG1.values / 127).half().float()
    else:
        # -8 has no counterpart: the number that is largest without its sign is given it.
        scale_OG1 = (weight_OGg.gather(-1, most_OG1.indices) / -8).half().float()
    offset = 1 << (bits - 1)
    number_OGg = torch.where(scale_OG1 == 0, 0, weight_OGg / scale_OG1).round().clamp(-offset, offset - 1) + offset
    return number_OGg.flatten(-2).to(torch.uint8), scale_OG1[..., 0].half()


def to_mxfp4(weight_OI: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of 4-bit floats, uint8 [outputs, inputs], and the scales of what they are twice, float16 [outputs, inputs /
    32]: powers of two by which the largest of a group is at least 4 and less than 8.

    Weights that were MXFP4 (see `model.families.quantised`) are kept exactly where a group's scale was 2^-23 or more;
    others go to the nearest.
    """
    weight_OGg = weight_OI.float().unflatten(-1, (-1, GROUP))
    _, power_OG1 = torch.frexp(weight_OGg.abs().amax(-1, keepdim=True))
    scale_OG1 = torch.ldexp(torch.ones_like(weight_OGg[..., :1]), (power_OG1 - 3).clamp(-23, 15))
    quarters_OGg = (weight_OGg.abs() * (4 / scale_OG1)).ceil().clamp(max=32).int()
    code_OGg = torch.tensor(_CODES, dtype=torch.uint8).index_select(0, quarters_OGg.flatten()).view_as(weight_OGg)
    code_OGg |= (weight_OGg < 0).to(torch.uint8) << 3
    return code_OGg.flatten(-2), (scale_OG1[..., 0] / 2).half()


def dequantise(number_OI: torch.Tensor, scale_OG: torch.Tensor, bits: Bits) -> torch.Tensor:
    """The weights that `quantise` keeps, float32 [outputs, inputs]."""
    number_OGg = number_OI.float().unflatten(-1, (-1, GROUP)) - (1 << (bits - 1))
    return (number_OGg * scale_OG[..., None].float()).flatten(-2)
