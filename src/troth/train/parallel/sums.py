"""Sums of gradients of which several ranks have a part each, taken once, behind the backward pass of all micro-batches.

FSDP sums over ranks that have different tokens. It does not know of biases and adapters that the ranks of `tp` or `etp`
all hold whole, while each computes with them for its heads or rows, nor of the embedding that the first and the last
stage of a pipeline both have, since the head is the same matrix or multi-token prediction looks tokens up. Of these two
each adds the other's gradient to its own, so that both go on alike, to the bit.
"""

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from troth.train.parallel.mesh import Mesh
from troth.train.parallel.pipeline import ends
from troth.train.weights import Weight


@torch.no_grad()
def sum_parts(weights: list[Weight], mesh: Mesh) -> None:
    """Complete the gradients of the local parameters in place. Collective."""
    sums = [(_gradient(weight), group) for weight in weights for group in _holders(weight)]
    for work in [dist.all_reduce(gradient, group=group, async_op=True) for gradient, group in sums]:
        work.wait()
    # Last of all: what both ends add up is then the same.
    for weight in weights:
        if weight.at_both_ends:
            _add_other_end(_gradient(weight), mesh)


def _holders(weight: Weight) -> list[dist.ProcessGroup]:
    """The ranks that hold a weight alike, but for those that FSDP knows: along `tp` and `etp`."""
    w = weight.whole
    if not isinstance(w, DTensor):
        return []
    names = zip(w.device_mesh.mesh_dim_names or (), w.placements, strict=True)
    return [w.device_mesh.get_group(name) for name, place in names if name in ("tp", "etp") and place.is_replicate()]


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
