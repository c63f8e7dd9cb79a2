"""Muon for matrices, stacked experts included, and AdamW for the rest.

Muon (Jordan et al., 2024): momentum, then nearly the nearest orthogonal matrix by four Newton-Schulz steps (a fifth
costs 5% of nano's step and taught it no more); the update is scaled by 0.2 * sqrt(max(rows, columns)) so that its
size is like AdamW's (Liu et al., 2502.16982).
"""

from typing import Any

import torch
from torch import nn

from troth.model.decoder import Decoder

_QUINTIC = 3.4445, -4.7750, 2.0315


def orthogonalise(g_SOI: torch.Tensor, dtype: torch.dtype, steps: int = 4) -> torch.Tensor:
    """Move the singular values of each matrix of a stack [stack, out, in] close to one; products are in `dtype`."""
    a, b, c = _QUINTIC
    x = (g_SOI / (g_SOI.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(g_SOI.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonalised updates; parameters are [out, in] or [experts, out, in].

    Matrices of one shape, from all layers and experts, are orthogonalised together in one batched product. A group
    whose `stacked` is n holds n matrices above each other in every [out, in], such as the experts' gate and up.
    """

    def __init__(
        self, parameters: list[nn.Parameter] | list[dict[str, Any]], lr: float, momentum: float = 0.95,
        weight_decay: float = 0.0, dtype: torch.dtype = torch.float32,
    ):  # fmt: skip
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "stacked": 1})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; the loss is not computed anew."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, torch.Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shape = parameter.shape[-2] // group["stacked"], parameter.shape[-1]
                    by_shape.setdefault(shape, []).append((parameter, parameter.grad))
            for (rows, columns), members in by_shape.items():
                scale = group["lr"] * 0.2 * max(rows, columns) ** 0.5
                updates = []
                for parameter, grad in members:
                    state = self.state[parameter]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(parameter)
                    momentum = state["momentum"].lerp_(grad, 1 - group["momentum"])
                    updates.append(grad.lerp(momentum, group["momentum"]).view(-1, rows, columns))
                whole = orthogonalise(torch.cat(updates), self.dtype)
                for (parameter, _), update in zip(members, whole.split([len(u) for u in updates]), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update.view_as(parameter), alpha=scale)


def build_optimizers(
    model: Decoder, muon_lr: float, adam_lr: float, weight_decay: float, dtype: torch.dtype
) -> list[torch.optim.Optimizer]:
    """Muon over the matrices inside layers; AdamW over embeddings, head, norms and routers."""
    matrices: list[nn.Parameter] = []
    pairs: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = name.startswith("layers.") and parameter.dim() >= 2 and "router" not in name
        kind = pairs if name.endswith("gate_up_proj") else matrices if inside else others
        kind.append(parameter)
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": pairs, "stacked": 2}]
    return [
        Muon(groups, lr=muon_lr, weight_decay=weight_decay, dtype=dtype),
        torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.95), eps=1e-10, weight_decay=weight_decay),
    ]
