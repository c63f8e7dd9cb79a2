"""One step of the real training code by one rank of any world: a fake process group, and tensors without numbers.

Memory is that of torch's tensors: a GPU's driver, its kernels and the buffers of NCCL take some more.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial, partialmethod
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from troth.model.config import ModelConfig
from troth.system import Layout, ParallelTable, TrainTable, lay_out
from troth.system.parallel import active_ranks
from troth.train.batches import Batch
from troth.train.dry_run.assume import ANSWERS, assumed
from troth.train.dry_run.replaced import replaced
from troth.train.dry_run.tracker import GRADIENTS, OPTIMIZER, WEIGHTS, Collective, Peak, Tracker
from troth.train.job import check_length
from troth.train.optim import build_optimizers
from troth.train.parallel.mesh import Mesh
from troth.train.parallel.network import Network
from troth.train.precision import DTYPES
from troth.train.preference import PreferenceBatch
from troth.train.step import step


@dataclass(frozen=True)
class Rank:
    """What the step took on one rank; `seconds` are those of one processor that the dry run of it took."""

    rank: int
    layers: list[int]
    peak: Peak
    collectives: list[Collective]
    seconds: float


@dataclass(frozen=True)
class Report:
    """A dry run: its layout, the ranks that are left over, and the ranks that ran, of which the others are copies: the
    first, a middle and the last place of a pipeline. `seconds` passed while the run itself was under way."""

    layout: Layout
    spares: int
    precision: str
    ranks: list[Rank]
    seconds: float

    @property
    def worst(self) -> Rank:
        """The rank with the highest peak."""
        return max(self.ranks, key=lambda rank: rank.peak.bytes)


def dry_run(model: ModelConfig, train: TrainTable, table: ParallelTable, world: int) -> Report:
    """Run a step as the GPUs of `world` would, those of a replica group among its own. Raises ValueError where the
    layout or a sequence does not fit, and OSError where a process of the run is ended from outside."""
    start = time.perf_counter()
    check_length(model, train)
    groups = table.replica_groups
    active = active_ranks(table, world // groups)
    layout = lay_out(table, model, train, active)
    if train.precision == "float64":
        raise ValueError("train.precision=float64: a dry run is for bf16 and float32")
    precision = "bf16" if train.precision == "auto" else train.precision
    places = sorted({0, layout.pp // 2, layout.pp - 1})
    run = partial(run_rank, model, train, layout, precision)
    try:
        with fresh_processes(min(len(places), os.cpu_count() or 1)) as pool:
            ranks = list(pool.map(run, [place * (active // layout.pp) for place in places]))
    except BrokenProcessPool as error:
        raise OSError(
            f"the dry run of {world:,} GPUs: one of its processes was ended before it had an answer, as Linux does "
            "where memory runs out"
        ) from error
    return Report(layout, world - groups * active, precision, ranks, time.perf_counter() - start)


def fresh_processes(count: int) -> ProcessPoolExecutor:
    """So many at a time, each for one task: torch remembers groups of ranks that are gone."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(count, context, max_tasks_per_child=1)


def run_rank(
    model: ModelConfig, train: TrainTable, layout: Layout, precision: str, rank: int, gpu: bool = True
) -> Rank:
    """What a step takes on one rank; without `gpu`, where it computes on a CPU."""
    start = time.process_time()
    with ExitStack() as stack:
        if layout.world > 1:
            stack.enter_context(_fake_ranks(rank, layout.world))
        # Tensors say that they are on a CPU: a torch built without CUDA has no gradients for others.
        mesh = Mesh.over(layout, "cpu") if layout.world > 1 else None
        dtype = DTYPES[precision]
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        others = [(nn.Module, "to_empty", partialmethod(_to_empty, fake, nn.Module.to_empty)), *_meshes_once()]
        with replaced(others):
            network = Network(model, train, layout, dtype, mesh, "cpu")
        optimizers = build_optimizers(
            network.weights, train.muon_lr, train.adam_lr, train.weight_decay, dtype, train.optimizer
        )
        stack.enter_context(fake)
        stack.enter_context(assumed(gpu))
        tracker = stack.enter_context(Tracker(ANSWERS))
        follow(tracker, network, optimizers)
        step(network, optimizers, blank_batch(train, train.sequences // layout.rows_ranks), 1.0, train)
        layers = [int(name) for decoder in network.decoders for name in decoder.layers]
        collectives = tracker.collectives(_names_of_groups(mesh) if mesh else {})
        return Rank(rank, layers, tracker.peak(), collectives, time.process_time() - start)


def blank_batch(train: TrainTable, rows: int) -> Batch:
    """So many rows, in which every token has a target; of preferences each two are a pair."""
    zeros = np.zeros((rows, train.sequence_length), dtype=np.int64)
    if train.objective != "preference":
        return Batch(zeros, zeros, zeros)
    return PreferenceBatch(zeros, zeros, zeros, np.zeros((rows // 2, 1), dtype=np.int64), np.zeros((rows // 2, 1, 2)))


def _meshes_once() -> list[tuple[Any, str, Any]]:
    """FSDP takes meshes apart and joins them anew for every weight, and each mesh names all ranks: 47 MB of 400,000."""
    part, join = cache(DeviceMesh.__getitem__), DeviceMesh._concatenate
    joined = cache(lambda *meshes: join(list(meshes)))
    return [
        (DeviceMesh, "__getitem__", part),
        (DeviceMesh, "_concatenate", lambda meshes: joined(*meshes)),
    ]


def _to_empty(module: nn.Module, fake: FakeTensorMode, to_empty: Callable[..., Any], device: str) -> None:
    """Give a module weights without numbers; before it had none, and was taken apart as a real one is."""
    with fake:
        to_empty(module, device=device)


@contextmanager
def _fake_ranks(rank: int, world: int) -> Iterator[None]:
    """A process group in which nobody answers: every exchange returns at once."""
    dist.init_process_group("fake", rank=rank, world_size=world, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def _names_of_groups(mesh: Mesh) -> dict[str, str]:
    """What groups of ranks are called in the mesh, by the names that torch gave them."""
    assert dist.group.WORLD is not None
    names: dict[str, str] = {dist.group.WORLD.group_name: "all"}
    for part in (mesh.whole, mesh.flat, mesh.dense, mesh.sparse):
        for dimension in part.mesh_dim_names or ():
            names.setdefault(part.get_group(dimension).group_name, dimension)
    for name in ("rows", "stage", "expert_ranks"):
        names.setdefault(getattr(mesh, name).group_name, name)
    return names


def follow(tracker: Tracker, network: Network, optimizers: list[torch.optim.Optimizer]) -> None:
    """Tell the tracker what weights and the like are, and in which layer or optimizer it is while a step runs."""
    tracker.name((buffer for part in network.parts for buffer in part.buffers()), WEIGHTS)
    for decoder in network.decoders:
        for name, layer in decoder.layers.items():
            layer.register_forward_pre_hook(partial(_enter, tracker, f"layer {name}"))
            layer.register_forward_hook(partial(_enter_backward, tracker, f"layer {name}"))
        if decoder.first:
            decoder.embed_tokens.register_forward_pre_hook(partial(_enter, tracker, "embedding"))
        if decoder.last:
            decoder.register_forward_hook(partial(_enter, tracker, "head"))
            decoder.register_forward_hook(partial(_enter_backward, tracker, "head"))
    tracker.name((weight.local for weight in network.weights), WEIGHTS)
    for optimizer in optimizers:
        states = (x for state in optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor))
        tracker.name(states, OPTIMIZER)
        optimizer.register_step_pre_hook(partial(_update, tracker, network))


def _enter(tracker: Tracker, place: str, *_: Any) -> None:
    tracker.place = place


def _enter_backward(tracker: Tracker, place: str, module: nn.Module, args: Any, out: torch.Tensor) -> None:
    """The gradient of a part's output comes before all others of the part."""
    if out.requires_grad:
        out.register_hook(partial(_enter, tracker, place))


def _update(tracker: Tracker, network: Network, optimizer: torch.optim.Optimizer, *_: Any) -> None:
    tracker.name((w.local.grad for w in network.weights if w.local.grad is not None), GRADIENTS)
    tracker.place = type(optimizer).__name__
