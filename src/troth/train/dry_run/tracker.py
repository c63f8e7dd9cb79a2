"""How much memory tensors take while a step runs, what it is for, and where in the step it is most; and what goes
between ranks meanwhile.

Every storage is written down when an operation makes it and when it goes, whether it has numbers or is fake. What it is
for is often known later than it is made, so the peak is read from the record at the end.
"""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _resolve_process_group
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._sharding_prop import ShardingPropagator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from troth.train.dry_run.replaced import replaced

WEIGHTS, GATHERED, GRADIENTS, OPTIMIZER = "weights", "gathered weights", "gradients", "optimizer"
ACTIVATIONS, BUFFERS = "activations", "buffers"
KINDS = WEIGHTS, OPTIMIZER, GRADIENTS, GATHERED, ACTIVATIONS, BUFFERS
"""weights, gradients and optimizer: what this rank holds, of gradients also those not yet shared out between ranks.
gathered weights: those that FSDP has brought together for a layer. activations: what a forward pass, the first or one
computed again, keeps for its backward pass. buffers: all else, there for a moment."""


@dataclass
class Block:
    """A storage: its bytes, and what they are for, if that is known."""

    bytes: int
    kind: str | None
    turn: int


@dataclass(frozen=True)
class Peak:
    """The most bytes at a time, by kind, and the moment."""

    bytes: int
    by_kind: dict[str, int]
    moment: str


@dataclass(frozen=True)
class Collective:
    """What one kind of exchange between the ranks of a group came to. `bytes` are those of this rank's larger side, the
    tensor that goes in or the one that comes out, summed over all `count` calls."""

    kind: str
    group: str
    ranks: int
    count: int
    bytes: int


class Tracker(TorchDispatchMode):
    """While entered, it sees all operations of this process; some it answers itself, by `answers`."""

    def __init__(self, answers: dict[Any, Callable[..., Any]]):
        super().__init__()
        self.place, self._answers = "", answers
        self._moments: list[tuple[int, Block, str]] = []
        self._live: dict[int, tuple[Block, Any]] = {}
        self._turn, self._in_backward, self._blind = 0, False, False
        self._collectives: dict[tuple[str, str], list[int]] = {}

    def __enter__(self) -> "Tracker":
        resize, infer = torch.UntypedStorage.resize_, ShardingPropagator._propagate_tensor_meta_non_cached

        def resize_seen(storage: torch.UntypedStorage, size: int) -> torch.UntypedStorage:
            self._resized(storage, size)
            return resize(storage, size)

        def infer_unseen(*args: Any) -> Any:
            self._blind = True
            try:
                return infer(*args)
            finally:
                self._blind = False

        # FSDP frees and brings back weights by resizing their storages, which is no operation. DTensor finds out the
        # shapes of results by fake operations on whole tensors, which take no memory.
        self._others = replaced([
            (torch.UntypedStorage, "resize_", resize_seen),
            (ShardingPropagator, "_propagate_tensor_meta_non_cached", infer_unseen),
        ])  # fmt: skip
        self._others.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._others.__exit__(*raised)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # Its operations on local tensors come here next.
        out = self._answers.get(func, func)(*args, **(kwargs or {}))
        if self._blind or func.namespace == "prim":
            return out
        self._take_turns()
        if func.namespace == "fsdp":
            self._name_fsdp(func, args, kwargs or {})
        elif func.namespace in ("c10d", "_c10d_functional", "_dtensor"):
            self._count(func, args, out)
        for leaf in (out,) if isinstance(out, torch.Tensor) else tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._see(leaf)
        return out

    def name(self, tensors: Iterable[torch.Tensor], kind: str) -> None:
        """Say what tensors are for."""
        for tensor in tensors:
            self._see(tensor).kind = kind

    def peak(self) -> Peak:
        """The peak since the record began."""
        total, most, at = 0, 0, -1
        for index, (change, _, _) in enumerate(self._moments):
            total += change
            if total > most:
                most, at = total, index
        by_kind = dict.fromkeys(KINDS, 0)
        for change, block, _ in self._moments[: at + 1]:
            by_kind[block.kind or BUFFERS] += change
        return Peak(most, by_kind, self._moments[at][2] if at >= 0 else "")

    def collectives(self, names: dict[str, str]) -> list[Collective]:
        """All exchanges; `names` are what groups are called, by the names that torch gave them."""
        found: dict[tuple[str, str, int], list[int]] = {}
        for (kind, group), (ranks, count, size) in self._collectives.items():
            sums = found.setdefault((kind, names.get(group, group), ranks), [0, 0])
            sums[0] += count
            sums[1] += size
        return [Collective(*key, *sums) for key, sums in sorted(found.items())]

    def _take_turns(self) -> None:
        """Notice when a backward pass begins or ends."""
        backward = torch._C._current_graph_task_id() != -1
        if backward != self._in_backward:
            self._in_backward = backward
            self._turn += 1

    def _see(self, tensor: torch.Tensor) -> Block:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return self._live[key][0]
        # A layer computed again for its gradient is what records gradients inside a backward pass.
        kind = ACTIVATIONS if self._in_backward and torch.is_grad_enabled() else None
        block = Block(storage.nbytes(), kind, self._turn)
        self._live[key] = block, weakref.ref(storage, lambda _: self._gone(key))
        self._write(block.bytes, block)
        return block

    def _gone(self, key: int) -> None:
        block, _ = self._live.pop(key)
        if block.kind is None and block.turn % 2 == 0 and self._turn > block.turn:
            block.kind = ACTIVATIONS
        self._write(-block.bytes, block)

    def _resized(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self._live:
            block, reference = self._live[key]
            self._write(-block.bytes, block)
            after = Block(size, GATHERED, self._turn)
            self._live[key] = after, reference
            self._write(size, after)

    def _write(self, change: int, block: Block) -> None:
        if change:
            self._moments.append((change, block, f"{'backward' if self._in_backward else 'forward'}, {self.place}"))

    def _name_fsdp(self, func: Any, args: Any, kwargs: Any) -> None:
        name = func._schema.name
        if name == "fsdp::all_gather_copy_in":
            self.name([args[1]], GATHERED)
        elif name == "fsdp::split_with_sizes_copy":
            self.name(kwargs["out"], GATHERED)
        elif name == "fsdp::chunk_cat":
            self.name(args[0], GRADIENTS)

    def _count(self, func: Any, args: Any, out: Any) -> None:
        group = _group(args)
        if group is None:
            return
        sides = [[x for x in tree_leaves(side) if isinstance(x, torch.Tensor)] for side in (*args, out)]
        size = max(sum(x.numel() * x.element_size() for x in side) for side in sides)
        kind = _KINDS_OF_COLLECTIVES[func._schema.name.split("::")[1].strip("_")]
        sums = self._collectives.setdefault((kind, group.group_name), [group.size(), 0, 0])
        sums[1] += 1
        sums[2] += size


_KINDS_OF_COLLECTIVES = {
    "allgather_base": "all-gather", "all_gather_into_tensor": "all-gather",
    "reduce_scatter_base": "reduce-scatter", "reduce_scatter_tensor": "reduce-scatter",
    "allreduce": "all-reduce", "all_reduce": "all-reduce",
    "alltoall_base": "all-to-all", "all_to_all_single": "all-to-all", "shard_dim_alltoall": "all-to-all",
    "send": "send", "recv": "receive", "broadcast": "broadcast",
}  # fmt: skip


def _group(args: Any) -> dist.ProcessGroup | None:
    """The ranks that an operation of torch.distributed is for, which it gets boxed or by name; none to wait."""
    for arg in args:
        if isinstance(arg, torch.ScriptObject) and "ProcessGroup" in str(arg._type()):
            return dist.ProcessGroup.unbox(arg)
        if isinstance(arg, str):
            try:
                return _resolve_process_group(arg)  # type: ignore[arg-type]
            except RuntimeError:
                continue
    return None
