"""Rotary position embedding (Su et al., 2104.09864), in the rotate-half layout of the Hugging Face checkpoints, and its
stretching to longer texts by YaRN (Peng et al., 2309.00071, sections 3.2 to 3.4)."""

import math
from dataclasses import dataclass

import torch

from troth.model.config import ModelConfig, Yarn


@dataclass(frozen=True)
class Positions:
    """What layers need to know of where tokens stand: `cos` and `sin` [batch, 1, time, rotary_dim], and the temperature
    of their scores [batch, 1, time, 1], if positions change it; all in float32."""

    cos: torch.Tensor
    sin: torch.Tensor
    temperature: torch.Tensor | None

    @classmethod
    def of(cls, positions_BT: torch.Tensor, config: ModelConfig) -> "Positions":
        """For integer positions [batch, time]."""
        return cls(*rotary_angles(positions_BT, config), attention_temperature(positions_BT, config))


def rotary_angles(positions_BT: torch.Tensor, config: ModelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, [batch, 1, time, rotary_dim] in float32, for integer positions [batch, time]."""
    angles = positions_BT[:, None, :, None].float() / rotary_periods(config, positions_BT.device)
    angles = torch.cat((angles, angles), dim=-1)
    if config.yarn is None:
        return angles.cos(), angles.sin()
    scale = config.yarn.scale
    return angles.cos() * scale, angles.sin() * scale


def rotary_periods(config: ModelConfig, device: torch.device | str = "cpu") -> torch.Tensor:
    """How many positions each rotation takes for one radian, [rotary_dim / 2] in float32."""
    size = config.rotary_dim
    exponent = torch.arange(0, size, 2, device=device, dtype=torch.float32) / size
    period = config.rope_theta**exponent
    return period if config.yarn is None else _stretched(period, config.yarn, config.rope_theta)


def _stretched(period_r: torch.Tensor, yarn: Yarn, theta: float) -> torch.Tensor:
    """Periods of the rotations [rotary_dim / 2]: those that turn often within the original length stay, those that
    hardly turn are stretched by the factor, those between are blended."""
    size, length = 2 * len(period_r), yarn.original_max_position_embeddings

    def rotation(turns: float) -> float:
        """The rotation, as a fractional index, that turns so often within the original length."""
        return size * math.log(length / (2 * math.pi * turns)) / (2 * math.log(theta))

    first, last = rotation(yarn.beta_fast), rotation(yarn.beta_slow)
    if yarn.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    index = torch.arange(len(period_r), device=period_r.device, dtype=torch.float32)
    stretched = ((index - first) / max(last - first, 1e-3)).clamp(0, 1)
    return 1 / ((1 - stretched) / period_r + stretched / (yarn.factor * period_r))


def rotate(x_BHTd: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair (i, i + size/2) of [batch, heads, time, size] by its position's angle."""
    first, second = x_BHTd.chunk(2, dim=-1)
    return x_BHTd * cos.to(x_BHTd.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x_BHTd.dtype)


def rotate_neighbours(x_BHTd: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """The same for weights whose pairs are neighbours, (2i, 2i + 1), as in DeepSeek-V3; the result's are not, which
    changes no product of a query with a key."""
    return rotate(x_BHTd.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2), cos, sin)


def attention_temperature(positions_BT: torch.Tensor, config: ModelConfig) -> torch.Tensor | None:
    """What each query's scores are multiplied by, [batch, 1, time, 1] in float32; None where nothing."""
    if config.attention_temperature_len is None:
        return None
    positions = positions_BT[:, None, :, None].float().clamp(min=config.attention_temperature_len)
    return positions.log2() / math.log2(config.attention_temperature_len)
