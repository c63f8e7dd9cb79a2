"""A network's weights as optimisers see them: what of each this rank holds, as plain tensors."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.tensor import DTensor


def local(x: torch.Tensor) -> torch.Tensor:
    """What of a tensor, whole or distributed, this rank holds; shares its memory."""
    return x.to_local() if isinstance(x, DTensor) else x


@dataclass(frozen=True)
class Weight:
    """A parameter by its name in the whole network; `local` shares the memory of what this rank holds of it.
    Of one `at_both_ends`, the rank of another stage of the pipeline holds the same."""

    name: str
    whole: nn.Parameter
    local: nn.Parameter
    at_both_ends: bool = False

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
        """How many ranks hold the same part."""
        copies, w = 1 + self.at_both_ends, self.whole
        if isinstance(w, DTensor):
            for size, place in zip(w.device_mesh.shape, w.placements, strict=True):
                copies *= size if place.is_replicate() else 1
        return copies


@torch.no_grad()
def weights_of(parts: Sequence[nn.Module], at_both_ends: Collection[str] = ()) -> list[Weight]:
    """All weights that learn of a rank's parts of the network; a matrix with two names comes once.
    For `at_both_ends` see `Weight`."""
    found: dict[nn.Parameter, Weight] = {}
    for part in parts:
        for name, parameter in part.named_parameters():
            if parameter.requires_grad and parameter not in found:
                here = nn.Parameter(local(parameter)) if isinstance(parameter, DTensor) else parameter
                found[parameter] = Weight(name, parameter, here, name in at_both_ends)
    return list(found.values())


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
