"""What each rank's machine can do, measured in a few seconds before a run: slow ones are named before they slow it.

Bandwidths of collectives are bus bandwidths, which do not depend on the number of ranks (nccl-tests, PERFORMANCE.md):
an all-reduce of b bytes among n ranks moves 2 (n - 1) / n * b, an all-to-all (n - 1) / n * b.
"""

import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from troth.model.products import linear

if TYPE_CHECKING:
    from rich.table import Table

SLOW = 0.85
"""A rank is slow whose rate is below this share of the fleet's median, or whose latency is above its inverse."""

_SECONDS = 0.5
_NAME_BYTES = 64


class Figures(NamedTuple):
    """Rates of one rank, a second, and latencies in seconds; not a number where there is no other rank to send to."""

    matrix: float
    """Operations, two for a multiply and add."""
    memory: float
    """Bytes read and written."""
    all_reduce: float
    all_to_all: float
    """Bytes that each rank sends."""
    all_reduce_latency: float
    all_to_all_latency: float


@dataclass(frozen=True)
class Probe:
    """One rank's figures. Those of collectives are by the slowest member of a group, so they tell groups apart."""

    rank: int
    host: str
    figures: Figures


@dataclass(frozen=True)
class Preflight:
    """Figures of all ranks, in the order of ranks."""

    probes: list[Probe]

    @property
    def median(self) -> Figures:
        """The fleet's median of each figure. Model FLOPs utilisation is counted against its matrix rate."""
        columns = np.array([probe.figures for probe in self.probes]).T
        known = [column[~np.isnan(column)] for column in columns]
        return Figures(*(float(np.median(column)) if len(column) else math.nan for column in known))

    def slow(self, share: float = SLOW) -> list[tuple[Probe, str]]:
        """Ranks with a figure that is worse than `share` of the median, and the name of each such figure."""
        median = self.median
        found = []
        for probe in self.probes:
            for name, own, usual in zip(Figures._fields, probe.figures, median, strict=True):
                if own / usual > 1 / share if name.endswith("latency") else own / usual < share:
                    found.append((probe, name))
        return found

    def warnings(self, share: float = SLOW) -> list[str]:
        """A sentence for each slow figure of a rank."""
        median = self.median
        return [
            f"rank {probe.rank} on {probe.host}: {name.replace('_', ' ')} {_show(name, getattr(probe.figures, name))}, "
            f"the fleet's median is {_show(name, getattr(median, name))}"
            for probe, name in self.slow(share)
        ]

    def table(self, rows: int = 64, share: float = SLOW) -> "Table":
        """A row a rank and the median; of more than `rows` ranks the slow ones alone, the first `rows` of them."""
        from rich.table import Table

        slow = {(probe.rank, name) for probe, name in self.slow(share)}
        shown, title = self.probes, f"Preflight of {len(self.probes)} ranks"
        if len(shown) > rows:
            ranks = {rank for rank, _ in slow}
            shown = [probe for probe in shown if probe.rank in ranks][:rows]
            title += f", of which {len(ranks)} are slow"
        table = Table("rank", "host", title=title)
        for name in Figures._fields:
            table.add_column(name.replace("_", " "), justify="right")
        for probe in shown:
            cells = [
                f"[red]{_show(name, value)}[/red]" if (probe.rank, name) in slow else _show(name, value)
                for name, value in zip(Figures._fields, probe.figures, strict=True)
            ]
            table.add_row(str(probe.rank), probe.host, *cells)
        table.add_section()
        medians = zip(Figures._fields, self.median, strict=True)
        table.add_row("median", "", *(_show(name, value) for name, value in medians))
        return table


def _show(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if name.endswith("latency"):
        return f"{value * 1e6:,.0f} us"
    if name == "matrix":
        return f"{value / 1e12:,.0f} TFLOP/s" if value >= 1e13 else f"{value / 1e9:,.0f} GFLOP/s"
    return f"{value / 1e9:,.1f} GB/s"


def run_preflight(
    dtype: torch.dtype, device: torch.device, exchange: "dist.ProcessGroup | None" = None
) -> Preflight | None:
    """Measure all ranks at once; rank 0 gets the figures, the others None. All ranks call it, in a few seconds.

    `dtype` is that of the run's products. The all-reduce is among all ranks, the all-to-all in the group `exchange`,
    which is best the ranks that share experts: among very many ranks each would have to connect to each other.
    """
    alone = not dist.is_initialized() or dist.get_world_size() == 1
    nan = math.nan
    if not alone:
        dist.barrier()
    own = matrix_rate(dtype, device), memory_rate(device)
    figures = Figures(*own, *((nan, nan, nan, nan) if alone else _collectives(device, exchange)))
    host = socket.gethostname()
    if alone:
        return Preflight([Probe(0, host, figures)])
    # Figures and names travel as bytes of one length: a gather of objects would be a message a rank to rank 0.
    record = np.array(figures).tobytes() + host.encode()[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0")
    sent = torch.frombuffer(bytearray(record), dtype=torch.uint8).to(device)
    received = sent.new_empty(dist.get_world_size(), len(sent))
    dist.all_gather(list(received), sent)
    if dist.get_rank() != 0:
        return None
    probes = []
    for rank, row in enumerate(received.cpu().numpy()):
        numbers = np.frombuffer(row[:-_NAME_BYTES].tobytes())
        probes.append(Probe(rank, row[-_NAME_BYTES:].tobytes().rstrip(b"\0").decode(), Figures(*numbers.tolist())))
    return Preflight(probes)


def matrix_rate(dtype: torch.dtype, device: torch.device, seconds: float = _SECONDS) -> float:
    """Operations a second of a square product in `dtype`, large enough to keep the device busy, made as layers make
    theirs: widened where the processor is faster at that."""
    size = 1024 if device.type == "cpu" else 8192
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / _shortest(lambda: linear(a, b), device, seconds)


def memory_rate(device: torch.device, seconds: float = _SECONDS) -> float:
    """Bytes a second that a copy reads and writes, of more bytes than caches hold."""
    source = torch.ones(2**27 if device.type == "cpu" else 2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _shortest(lambda: target.copy_(source), device, seconds)


def _shortest(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of the quickest of the repeats that fit into `seconds`, of three at least, after one to warm up."""
    end, best, repeats = time.perf_counter() + seconds, math.inf, -1
    while repeats < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        _finish(device)
        if repeats >= 0:
            best = min(best, time.perf_counter() - start)
        repeats += 1
    return best


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _collectives(device: torch.device, exchange: "dist.ProcessGroup | None") -> tuple[float, float, float, float]:
    """The last four figures; repeats are counted, not timed, for all ranks must make as many."""
    among = dist.get_world_size(exchange)
    large = 2**24 if device.type == "cpu" else 2**28

    def all_reduce(size: int) -> float:
        part = torch.ones(size // 4, device=device)
        return _slowest(lambda: dist.all_reduce(part, op=dist.ReduceOp.MAX), device, None)

    def all_to_all(size: int) -> float:
        sent = torch.ones(among, max(1, size // 4 // among), device=device)
        received = torch.empty_like(sent)
        return _slowest(lambda: dist.all_to_all_single(received, sent, group=exchange), device, exchange)

    ranks = dist.get_world_size()
    bandwidth, latency = 2 * (ranks - 1) / ranks * large / all_reduce(large), all_reduce(4)
    if among == 1:
        return bandwidth, math.nan, latency, math.nan
    return bandwidth, (among - 1) / among * large / all_to_all(large), latency, all_to_all(4)


def _slowest(work: Callable[[], object], device: torch.device, group: "dist.ProcessGroup | None") -> float:
    """Seconds of the median of nine repeats, after two to warm up, by the slowest member of the group."""
    times = []
    for _ in range(11):
        start = time.perf_counter()
        work()
        _finish(device)
        times.append(time.perf_counter() - start)
    slowest = torch.tensor(sorted(times[2:])[4], device=device)
    dist.all_reduce(slowest, dist.ReduceOp.MAX, group)
    return slowest.item()
