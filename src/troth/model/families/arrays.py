"""Arrays that still lie in their file, and whole numbers with scales, as in Grok-1's release (its model.py)."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Array:
    """Numbers that are read when they are used: `data` holds them row by row, the lowest byte of each first.

    Raises ValueError if `data` has another size than `shape` and `dtype` ask for.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    data: memoryview

    def __post_init__(self) -> None:
        if not self.shape or not all(type(size) is int and size > 0 for size in self.shape):
            raise ValueError("an array without sizes")
        if math.prod(self.shape) * self.dtype.itemsize != len(self.data):
            raise ValueError(f"{len(self.data):,} bytes for an array of shape {list(self.shape)}")

    def tensor(self) -> torch.Tensor:
        """The numbers as a tensor; bytes stay where they are, larger numbers are copied to where they are aligned."""
        flat = torch.frombuffer(self.data, dtype=torch.uint8)
        return (flat if self.dtype.itemsize == 1 else flat.clone()).view(self.dtype).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Quantised:
    """Whole numbers and the scales to multiply them with: along an axis, each scale is for one of equal blocks.

    `scales` has as many axes as `weight`: [1, 1024] for [6144, 1024], or [8, 6144] for [32768, 6144], say, where a
    scale holds for 4096 rows. Raises ValueError where they do not fit each other.
    """

    weight: Array
    scales: Array

    def __post_init__(self) -> None:
        size, blocks = self.weight.shape, self.scales.shape
        fits = len(size) == len(blocks) and not any(whole % parts for whole, parts in zip(size, blocks, strict=True))
        if self.weight.dtype != torch.int8 or not self.scales.dtype.is_floating_point or not fits:
            numbers, factors = (
                f"{str(array.dtype).removeprefix('torch.')} of shape {list(array.shape)}"
                for array in (self.weight, self.scales)
            )
            raise ValueError(f"{numbers} with scales {factors} is no quantised weight")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape


def dequantise(weight: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The products, in the type of `scales` and the shape of `weight`; with bfloat16 the release rounds the same.

    Each axis of `weight` is seen as the blocks and the places in a block, and a scale is the same in all places.
    """
    blocks = [size for whole, parts in zip(weight.shape, scales.shape, strict=True) for size in (parts, whole // parts)]
    spread = [size for parts in scales.shape for size in (parts, 1)]
    return (weight.reshape(blocks).to(scales.dtype) * scales.reshape(spread)).reshape(weight.shape)
