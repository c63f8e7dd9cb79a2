"""Muon for matrices, stacked experts included, and AdamW for the rest.

Muon (Jordan et al., 2024): momentum, then nearly the nearest orthogonal matrix by four Newton-Schulz steps (a fifth
costs 5% of nano's step and taught it no more); the update is scaled by 0.2 * sqrt(max(rows, columns)) so that its
size is like AdamW's (Liu et al., 2502.16982).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Literal

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.placement_types import Placement, _StridedShard

from troth.model.products import widens
from troth.train.weights import Weight

_QUINTIC = 3.4445, -4.7750, 2.0315
_ROUND_BYTES = 2**25


def orthogonalise(g_SOI: torch.Tensor, dtype: torch.dtype, steps: int = 4) -> torch.Tensor:
    """Move the singular values of each matrix of a stack [stack, out, in] close to one; products and result are in
    `dtype`, products wider where the processor is faster at that."""
    a, b, c = _QUINTIC
    x = torch.empty_like(g_SOI, dtype=dtype)
    if widens(x[:1]):  # By what one matrix is: how many are together depends on the ranks.
        return orthogonalise(g_SOI, torch.float32, steps).to(dtype)
    torch.div(g_SOI, g_SOI.norm(dim=(-2, -1), keepdim=True).add_(1e-7), out=x)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    # Room that all steps share: memory does not grow with their number.
    other, gram = torch.empty_like(x), x.new_empty(len(x), x.shape[1], x.shape[1])
    polynomial = torch.empty_like(gram)
    for _ in range(steps):
        torch.bmm(x, x.mT, out=gram)
        torch.baddbmm(gram, gram, gram, beta=b, alpha=c, out=polynomial)
        torch.baddbmm(x, polynomial, x, beta=a, out=other)
        x, other = other, x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonalised updates; weights are [out, in] or stacks of these, [..., out, in].

    Matrices of one shape, from all layers and experts, are orthogonalised together in batched products, `round_bytes`
    of them at a time: so much memory is needed about four times beside the weights. Where ranks hold parts of matrices,
    they exchange these so that each has some of the matrices whole, and exchange them back.
    """

    def __init__(
        self, weights: Sequence[Weight], lr: float, momentum: float = 0.95, weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32, round_bytes: int = _ROUND_BYTES,
    ):  # fmt: skip
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([weight.local for weight in weights], defaults)
        self.weights, self.dtype, self.round_bytes = list(weights), dtype, round_bytes
        # A part of a mesh names all of its ranks: of 400,000 there is to be one, and not one for each weight.
        part_of = cache(DeviceMesh.__getitem__)
        self.parted = [_parted(weight, part_of) for weight in weights]
        for weight in weights:
            self.state[weight.local]["momentum"] = torch.zeros_like(weight.local)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient; the loss is not computed anew."""
        alike: dict[tuple[torch.Size, torch.Size, _Parted], list[Weight]] = {}
        for weight, parted in zip(self.weights, self.parted, strict=True):
            if weight.local.grad is not None:
                alike.setdefault((weight.whole.shape[-2:], weight.local.shape[-2:], parted), []).append(weight)
        for (shape, local, parted), members in alike.items():
            # Of whole sizes, which all ranks know alike; and each rank is to have a matrix.
            ranks = 1 if parted is None else parted[0].size()
            matrix_bytes = shape.numel() * members[0].local.itemsize
            most = max(ranks, self.round_bytes * ranks // matrix_bytes)
            stack = sum(weight.local.shape[:-2].numel() for weight in members)
            update_Soi = members[0].local.new_empty(min(most, stack), *local)
            for parts in _rounds(members, most):
                self._update(parts, update_Soi, shape, parted)

    def _update(
        self, parts: list[tuple[Weight, slice]], update_Soi: torch.Tensor, matrix: torch.Size, parted: "_Parted"
    ) -> None:
        """Update some matrices of some weights, all of one shape; the other tensor is room for what they move by."""
        (group,) = self.param_groups
        ends = list(accumulate(part.stop - part.start for _, part in parts))
        places = [slice(end - (part.stop - part.start), end) for end, (_, part) in zip(ends, parts, strict=True)]
        for (weight, part), place in zip(parts, places, strict=True):
            grad = weight.local.grad
            assert grad is not None
            grad, momentum = _stack(grad)[part], _stack(self.state[weight.local]["momentum"])[part]
            torch.lerp(grad, momentum.lerp_(grad, 1 - group["momentum"]), group["momentum"], out=update_Soi[place])
        moved_Soi = _orthogonalise_parted(update_Soi[: ends[-1]], matrix, parted, self.dtype)
        scale = group["lr"] * 0.2 * max(matrix) ** 0.5
        for (weight, part), place in zip(parts, places, strict=True):
            _stack(weight.local)[part].mul_(1 - group["lr"] * group["weight_decay"]).sub_(moved_Soi[place], alpha=scale)


def _stack(x: torch.Tensor) -> torch.Tensor:
    """A weight, or what goes with it, as [stack, out, in]; shares its memory."""
    return x.view(-1, *x.shape[-2:])


def _rounds(members: list[Weight], most: int) -> Iterator[list[tuple[Weight, slice]]]:
    """All matrices of some weights, at most so many at a time."""
    parts, room = [], most
    for weight in members:
        first, count = 0, weight.local.shape[:-2].numel()
        while first < count:
            last = min(count, first + room)
            parts.append((weight, slice(first, last)))
            first, room = last, room - (last - first)
            if not room:
                yield parts
                parts, room = [], most
    if parts:
        yield parts


_Parted = tuple[DeviceMesh, tuple[Placement, ...]] | None


def _parted(weight: Weight, part_of: Callable[[DeviceMesh, tuple[str, ...]], DeviceMesh]) -> _Parted:
    """The dimensions of the mesh over which matrices are parted, not stacks of them, and how [stack, out, in] is."""
    w = weight.whole
    if not isinstance(w, DTensor):
        return None
    names: list[str] = []
    places: list[Placement] = []
    for name, place in zip(w.device_mesh.mesh_dim_names or (), w.placements, strict=True):
        if isinstance(place, Shard | _StridedShard) and (dim := place.dim - w.dim() + 3) > 0:
            names.append(name)
            if isinstance(place, _StridedShard):
                places.append(_StridedShard(dim, split_factor=place.split_factor))
            else:
                places.append(Shard(dim))
    if not names:
        return None
    mesh = w.device_mesh if len(names) == w.device_mesh.ndim else part_of(w.device_mesh, tuple(names))
    return mesh, tuple(places)


def _orthogonalise_parted(
    update_Soi: torch.Tensor, matrix: torch.Size, parted: _Parted, dtype: torch.dtype
) -> torch.Tensor:
    """`orthogonalise` for what this rank holds of a stack of matrices, each [out, in] if whole."""
    if parted is None:
        return orthogonalise(update_Soi, dtype)
    mesh, places = parted
    shape = torch.Size((len(update_Soi), *matrix))
    stride = (shape[1] * shape[2], shape[2], 1)
    spread = DTensor.from_local(update_Soi, mesh, places, run_check=False, shape=shape, stride=stride)
    whole = spread.redistribute(placements=[Shard(0)] * mesh.ndim)
    done = orthogonalise(whole.to_local(), dtype)
    back = DTensor.from_local(done, mesh, whole.placements, run_check=False, shape=shape, stride=stride)
    return back.redistribute(placements=places).to_local()


def build_optimizers(
    weights: Sequence[Weight], muon_lr: float, adam_lr: float, weight_decay: float, dtype: torch.dtype,
    for_matrices: Literal["muon", "adamw"] = "muon",
) -> list[torch.optim.Optimizer]:  # fmt: skip
    """Muon, or AdamW, over the matrices inside layers; AdamW over embeddings, head, norms, biases, routers and
    adapters."""

    def whole_matrix(w: Weight) -> bool:
        others = "router" in w.name or ".lora_" in w.name or w.name.endswith("_bias")
        return w.name.startswith("layers.") and w.whole.dim() >= 2 and not others

    matrices = [w for w in weights if whole_matrix(w)] if for_matrices == "muon" else []
    inside = {id(weight) for weight in matrices}
    others = [weight for weight in weights if id(weight) not in inside]
    adam = torch.optim.AdamW(
        [weight.local for weight in others], lr=adam_lr, betas=(0.9, 0.95), eps=1e-10, weight_decay=weight_decay,
        fused=True,
    )  # fmt: skip
    for weight in others:
        zeros = torch.zeros_like(weight.local), torch.zeros_like(weight.local)
        adam.state[weight.local] |= dict(zip(("exp_avg", "exp_avg_sq"), zeros, strict=True))
        adam.state[weight.local]["step"] = torch.zeros((), device=weight.local.device)
    optimizers: list[torch.optim.Optimizer] = [adam]
    if matrices:
        optimizers.insert(0, Muon(matrices, lr=muon_lr, weight_decay=weight_decay, dtype=dtype))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers
