"""Real ranks take one real step; the last writes down the most memory that torch's profiler saw it hold at a time."""

import gc
import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch._C._profiler import _EventType, _ProfilerEvent
from torch.profiler import ProfilerActivity, profile, record_function

from troth.model import products
from troth.model.config import ModelConfig
from troth.system import ParallelTable, TrainTable, lay_out
from troth.train.dry_run.run import blank_batch
from troth.train.optim import build_optimizers
from troth.train.parallel.mesh import Mesh
from troth.train.parallel.network import Network
from troth.train.precision import DTYPES
from troth.train.step import step

STEP = "a step of training"
TAKES = 2
"""How often a step is looked at. The least counts: a thread that keeps what it was handed only adds."""


def peak(model: ModelConfig, train: TrainTable, parallel: ParallelTable) -> int:
    """Bytes on the last rank, 0 on others: of everything that torch's allocator gave out but gloo's copies (it sums all
    on each rank where a GPU's kernel scatters sums, and its own threads may give a copy back unseen) and what a product
    takes and gives back, as on processors that multiply bf16 by way of float32."""
    layout = lay_out(parallel, model, train, dist.get_world_size())
    mesh = Mesh.over(layout, "cpu")
    dtype = DTYPES[train.precision]
    rows = train.batch_tokens // train.sequence_length // layout.rows_ranks
    gc.collect()
    looking = is_last()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) if looking else nullcontext() as profiler:
        network = Network(model, train, layout, dtype, mesh, "cpu").initialise(0)
        optimizers = build_optimizers(network.weights, train.muon_lr, train.adam_lr, train.weight_decay, dtype)
        with record_function(STEP):
            step(network, optimizers, blank_batch(train, rows), 1.0, train)
    if not looking:
        return 0
    assert profiler is not None
    assert profiler.profiler is not None
    roots = profiler.profiler.kineto_results.experimental_event_tree()
    left_out: set[int] = set()
    started = False
    held = most = 0
    for event, aside in sorted(walk(roots), key=lambda found: found[0].start_time_ns):
        started |= event.name == STEP
        memory = event.typed[1] if event.typed[0] == _EventType.Allocation else None
        if memory and aside and memory.alloc_size > 0:
            left_out.add(memory.ptr)
        elif memory and memory.ptr in left_out:
            left_out.remove(memory.ptr)
        elif memory:
            held += memory.alloc_size
            most = max(most, held * started)
    return most


def is_last() -> bool:
    return dist.get_rank() == dist.get_world_size() - 1


def walk(events: list[_ProfilerEvent], within_exchange: bool = False) -> Iterator[tuple[_ProfilerEvent, bool]]:
    """All events, and whether each is part of an exchange between ranks or takes what a product gives back."""
    for event in events:
        yield event, within_exchange
        name = event.name
        inner = walk(event.children, within_exchange or name.startswith("c10d::"))
        if name == "aten::mm":
            found = list(inner)
            given_back = {one.typed[1].ptr for one, _ in found if takes(one) < 0}
            yield from ((one, aside or (takes(one) > 0 and one.typed[1].ptr in given_back)) for one, aside in found)
        else:
            yield from inner


def takes(event: _ProfilerEvent) -> int:
    """Bytes that an event takes from the allocator; less than none where it gives some back."""
    return event.typed[1].alloc_size if event.typed[0] == _EventType.Allocation else 0


def let_go() -> None:
    """Let threads of gloo, which are not profiled, drop what they were handed before this one does."""
    wait = dist.Work.wait

    def wait_longer(work: dist.Work, *timeout: timedelta) -> bool:
        done = wait(work, *timeout)
        time.sleep(0.002)
        return done

    dist.Work.wait = wait_longer  # type: ignore[method-assign]


if __name__ == "__main__":
    torch.set_num_threads(1)
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    dist.init_process_group("gloo")
    let_go()
    # The dry run is of devices that multiply bf16 as it is.
    products.float32_over_bf16 = lambda device: 0.5
    kinds = {"model": ModelConfig, "train": TrainTable, "parallel": ParallelTable}
    cases = [{name: kind(**case[name]) for name, kind in kinds.items()} for case in job]
    peaks = [min(peak(**case) for _ in range(TAKES)) for case in cases]
    if is_last():
        Path(f"{sys.argv[1]}.{dist.get_rank()}").write_text(json.dumps(peaks), encoding="utf-8")
    dist.destroy_process_group()
