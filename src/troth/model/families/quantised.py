"""Weights in the formats that DeepSeek-V3 and gpt-oss were released in, widened to what a network computes with; and
MXFP4 made again, exactly, of what was widened.

DeepSeek-V3 (2412.19437, section 3.3): 8-bit floats, one scale for each block of 128 x 128. gpt-oss: MXFP4 (OCP
Microscaling Formats 1.0, section 5.3.3), 4-bit floats in runs of 32, each with a power of two.
"""

import torch

from troth.model.families.family import FP8_BLOCK

_HALF = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""What the numbers of one sign stand for in 4 bits: one of exponent's two bits, and one of the fraction."""
_CODES = [sum(quarters > border for border in (1, 3, 5, 7, 10, 14, 20)) for quarters in range(33)]
"""Which of `_HALF` is nearest, by a number's quarters, rounded up."""
_RUN = 32
_TILE = 1 << 18
"""Bytes that are widened at a time, so few that what comes of them on the way stays in a processor's cache."""


def from_fp8(weight_OI: torch.Tensor, scale_oi: torch.Tensor) -> torch.Tensor:
    """[out, in] in float8 times its scales [out / 128, in / 128], both rounded up; float32."""
    rows, columns = weight_OI.shape
    scale_OI = scale_oi.float().repeat_interleave(FP8_BLOCK, 0).repeat_interleave(FP8_BLOCK, 1)
    return weight_OI.float() * scale_OI[:rows, :columns]


def from_mxfp4(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Bytes [..., runs, 16], two numbers in each (the low half first), and exponents [..., runs] biased by 127, to
    float32 [..., runs * 32]."""
    rows = max(1, _TILE // max(1, blocks[:1].numel()))
    tiles = zip(blocks.split(rows), scales.split(rows), strict=True)
    return torch.cat([_widen(tile, exponents) for tile, exponents in tiles])


def _widen(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    # Both numbers of a byte at once: a pair in float32 is as wide as a whole number of 64 bits.
    values = torch.tensor(_HALF + tuple(-x for x in _HALF), device=blocks.device)
    pairs = torch.stack((values.repeat(16), values.repeat_interleave(16)), dim=-1).view(torch.int64).flatten()
    numbers = pairs.index_select(0, blocks.flatten().int()).view(blocks.shape).view(torch.float32)
    powers = torch.ldexp(torch.ones_like(scales, dtype=torch.float32), scales.int() - 127)
    return (numbers * powers[..., None]).flatten(-2)


def to_mxfp4(weight_OI: torch.Tensor, least: int = -125, most: int = 125) -> tuple[torch.Tensor, torch.Tensor]:
    """4-bit codes, uint8 [outputs, inputs], and the exponent of each run's power of two, int32 [outputs, inputs / 32]:
    from `least` to `most`, and between them that by which the run's largest number is at least 4 and less than 8.

    Weights that were MXFP4 are kept exactly where a run's exponent was within these; others go to the nearest.
    """
    weight_ORr = weight_OI.float().unflatten(-1, (-1, _RUN))
    _, power_OR1 = torch.frexp(weight_ORr.abs().amax(-1, keepdim=True))
    power_OR1 = (power_OR1 - 3).clamp(least, most)
    quarters_ORr = torch.ldexp(weight_ORr.abs(), 2 - power_OR1).ceil().clamp(max=32).int()
    code_ORr = torch.tensor(_CODES, dtype=torch.uint8).index_select(0, quarters_ORr.flatten()).view_as(weight_ORr)
    code_ORr |= (weight_ORr < 0).to(torch.uint8) << 3
    return code_ORr.flatten(-2), power_OR1[..., 0]
