"""The gradient's norm over all ranks, and its clipping (Pascanu et al., 1211.5063)."""

import torch

from troth.train.weights import Weight


@torch.no_grad()
def sum_of_squares(weights: list[Weight]) -> torch.Tensor:
    """This rank's part of the squared norm of the gradient, in float64: summed over all ranks it is the whole.

    What several ranks hold is counted once.
    """
    by_copies: dict[int, list[torch.Tensor]] = {}
    for weight in weights:
        if weight.local.grad is not None:
            by_copies.setdefault(weight.copies, []).append(weight.local.grad)
    total = torch.zeros((), dtype=torch.float64, device=weights[0].local.device)
    for copies, gradients in by_copies.items():
        norms = torch._foreach_norm(gradients)
        total += torch.stack([norm.double() for norm in norms]).square().sum() / copies
    return total


@torch.no_grad()
def clip(weights: list[Weight], norm: torch.Tensor, limit: float) -> None:
    """Scale the gradient down to `limit` where its `norm` is larger; the host does not wait to know."""
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    gradients = [weight.local.grad for weight in weights if weight.local.grad is not None]
    torch._foreach_mul_(gradients, factor.to(gradients[0].dtype))
