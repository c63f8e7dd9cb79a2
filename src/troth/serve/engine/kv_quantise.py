"""Keys and values in 8 bit: of each token and head the largest number sets a scale (vLLM's `int8_per_token_head` and
`fp8_per_token_head`), so that a token's numbers do not depend on what was or will be stored beside it."""

from typing import Literal

import torch

KVCacheDtype = Literal["auto", "int8", "fp8"]

LARGEST = {"int8": 127.0, "fp8": 448.0}
"""Of the numbers that are kept; `fp8` is e4m3 (Micikevicius et al., 2209.05433)."""
STORED = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
_LEAST = 1e-30
"""A scale of numbers that are all zero."""


def quantise_rows(
    x: torch.Tensor, kind: Literal["int8", "fp8"], parts: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers in 8 bit, [..., size], and their scales, float32 [..., parts]: one for each part of the last dimension,
    whose sizes `parts` adds up to it. What is kept is number * scale."""
    pieces = x.float().split(parts, dim=-1)
    scales = torch.stack([piece.abs().amax(-1) for piece in pieces], dim=-1).div_(LARGEST[kind]).clamp_(min=_LEAST)
    scaled = torch.cat([piece / scales[..., part, None] for part, piece in enumerate(pieces)], dim=-1)
    if kind == "int8":
        scaled.round_()
    return scaled.to(STORED[kind]), scales


def dequantise_rows(
    numbers: torch.Tensor, scales: torch.Tensor, parts: tuple[int, ...], dtype: torch.dtype
) -> torch.Tensor:
    """What `quantise_rows` keeps, in `dtype`."""
    pieces = numbers.float().split(parts, dim=-1)
    wide = [piece * scales[..., part, None] for part, piece in enumerate(pieces)]
    return (wide[0] if len(wide) == 1 else torch.cat(wide, dim=-1)).to(dtype)
