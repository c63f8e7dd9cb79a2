"""Weights in 8 and 4 bit: groups of 32 inputs of one output share a float16 scale (the layout of GGML's q8_0 and q4_0:
8.5 and 4.5 bits a weight)."""

from typing import Literal

import torch

GROUP = 32

Bits = Literal[8, 4]


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


def dequantise(number_OI: torch.Tensor, scale_OG: torch.Tensor, bits: Bits) -> torch.Tensor:
    """The weights that `quantise` keeps, float32 [outputs, inputs]."""
    number_OGg = number_OI.float().unflatten(-1, (-1, GROUP)) - (1 << (bits - 1))
    return (number_OGg * scale_OG[..., None].float()).flatten(-2)
