"""Sums of gradients of which several ranks have a part each, taken once, behind the backward pass of all micro-batches.

FSDP sums over ranks that have different tokens. It does not know of the embedding that the first and the last stage of
a pipeline both have, since the head is the same matrix or multi-token prediction looks tokens up; each of the two then
adds the other's gradient to its own, so that both go on alike, to the bit.
"""

import torch
import torch.distributed as dist

from troth.train.parallel.mesh import Mesh
from troth.train.parallel.pipeline import ends
from troth.train.weights import Weight


@torch.no_grad()
def sum_parts(weights: list[Weight], mesh: Mesh) -> None:
    """Complete the gradients of the local parameters in place. Collective."""
    for weight in weights:
        if weight.at_both_ends:
            _add_other_end(_gradient(weight), mesh)


def _gradient(weight: Weight) -> torch.Tensor:
    assert weight.local.grad is not None, weight.name
    return weight.local.grad


def _add_other_end(gradient: torch.Tensor, mesh: Mesh) -> None:
    first, last = ends(mesh.layout)
    other = last if mesh.rank("pp") == first else first
    theirs, group = torch.empty_like(gradient), mesh.group("pp")
    operations = [
        dist.P2POp(dist.isend, gradient, group=group, group_peer=other),
        dist.P2POp(dist.irecv, theirs, group=group, group_peer=other),
    ]
    for work in dist.batch_isend_irecv(operations):
        work.wait()
    gradient += theirs
