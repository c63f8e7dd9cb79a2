"""A network's weights as optimisers see them: what of each this rank holds, as plain tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.tensor import DTensor


def local(x: torch.Tensor) -> torch.Tensor:
    """What of a tensor, whole or distributed, this rank holds; shares its memory."""
    return x.to_local() if isinstance(x, DTensor) else x


@dataclass(frozen=True)
class Weight:
    """A parameter by its name in the whole network; `local` shares the memory of what this rank holds of it."""

    name: str
    whole: nn.Parameter
    local: nn.Parameter

    def like(self, held: torch.Tensor) -> torch.Tensor:
        """A tensor that this rank holds a part of as it does of the weight, such as a momentum."""
        w = self.whole
        if not isinstance(w, DTensor):
            return held
        return DTensor.from_local(
            held, w.device_mesh, w.placements, run_check=False, shape=w.shape, stride=w.stride()
        )

    @property
    def copies(self) -> int:
        """How many ranks of the pipeline stage's mesh hold the same part; 1 where it is not distributed."""
        w = self.whole
        if not isinstance(w, DTensor):
            return 1
        sizes = (w.device_mesh.size(i) for i, place in enumerate(w.placements) if place.is_replicate())
        copies = 1
        for size in sizes:
            copies *= size
        return copies


@torch.no_grad()
def weights_of(parts: Sequence[nn.Module]) -> list[Weight]:
    """All weights that learn of a rank's parts of the network; a matrix with two names comes once."""
    found = []
    for part in parts:
        for name, parameter in part.named_parameters():
            if not parameter.requires_grad:
                continue
            here = nn.Parameter(local(parameter)) if isinstance(parameter, DTensor) else parameter
            found.append(Weight(name, parameter, here))
    return found


@torch.no_grad()
def take_gradients(weights: list[Weight]) -> None:
    """Give the local parameters what their rank holds of the gradients."""
    for weight in weights:
        if weight.local is not weight.whole:
            weight.local.grad = None if weight.whole.grad is None else local(weight.whole.grad)


def drop_gradients(weights: list[Weight]) -> None:
    """Until the next backward pass."""
    for weight in weights:
        weight.whole.grad = weight.local.grad = None
