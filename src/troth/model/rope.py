"""Rotary position embedding (Su et al., 2104.09864), in the rotate-half layout of the Hugging Face checkpoints, and its
stretching to longer texts by YaRN (Peng et al., 2309.00071, sections 3.2 to 3.4)."""

import math

import torch

from troth.model.config import ModelConfig, Yarn


def rotary_angles(positions_BT: torch.Tensor, config: ModelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, [batch, 1, time, head_dim] in float32, for integer positions [batch, time]."""
    size = config.head_dim
    exponent = torch.arange(0, size, 2, device=positions_BT.device, dtype=torch.float32) / size
    period = config.rope_theta**exponent
    if config.yarn is not None:
        period = _stretched(period, config.yarn, config.rope_theta)
    angles = positions_BT[:, None, :, None].float() / period
    angles = torch.cat((angles, angles), dim=-1)
    if config.yarn is None:
        return angles.cos(), angles.sin()
    scale = config.yarn.scale
    return angles.cos() * scale, angles.sin() * scale


def _stretched(period_r: torch.Tensor, yarn: Yarn, theta: float) -> torch.Tensor:
    """Periods of the rotations [head_dim / 2]: those that turn often within the original length stay, those that hardly
    turn are stretched by the factor, those between are blended."""
    size, length = 2 * len(period_r), yarn.original_max_position_embeddings

    def rotation(turns: float) -> float:
        """The rotation, as a fractional index, that turns so often within the original length."""
        return size * math.log(length / (2 * math.pi * turns)) / (2 * math.log(theta))

    first = max(math.floor(rotation(yarn.beta_fast)), 0)
    last = min(math.ceil(rotation(yarn.beta_slow)), size - 1)
    index = torch.arange(len(period_r), device=period_r.device, dtype=torch.float32)
    stretched = ((index - first) / max(last - first, 1e-3)).clamp(0, 1)
    return 1 / ((1 - stretched) / period_r + stretched / (yarn.factor * period_r))


def rotate(x_BHTd: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair (i, i + head_dim/2) of [batch, heads, time, head_dim] by its position's angle."""
    first, second = x_BHTd.chunk(2, dim=-1)
    return x_BHTd * cos.to(x_BHTd.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x_BHTd.dtype)
