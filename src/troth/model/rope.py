"""Rotary position embedding (Su et al., 2104.09864), in the rotate-half layout of the Hugging Face checkpoints."""

import torch


def rotary_angles(positions_BT: torch.Tensor, head_dim: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, [batch, 1, time, head_dim] in float32, for integer positions [batch, time]."""
    exponent = torch.arange(0, head_dim, 2, device=positions_BT.device, dtype=torch.float32) / head_dim
    angles = positions_BT[:, None, :, None].float() / theta**exponent
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x_BHTd: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair (i, i + head_dim/2) of [batch, heads, time, head_dim] by its position's angle."""
    first, second = x_BHTd.chunk(2, dim=-1)
    return x_BHTd * cos.to(x_BHTd.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x_BHTd.dtype)
