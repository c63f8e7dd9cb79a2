"""All layouts in which a network can be trained on so many GPUs, and the best of them by the time model.

For a system only layouts count that `troth train` runs: what columns of layouts cannot say, `lay_out` says of the best.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice, product
from typing import Any

import numpy as np

from troth.model.config import ModelConfig
from troth.plan.calibration import Calibration
from troth.plan.memory import ROOM, memory_bytes
from troth.plan.run import CHEAP, Array, Columns, Run, row_of
from troth.plan.step import step_time
from troth.system.parallel import ParallelTable, lay_out
from troth.system.train import TrainTable

CHECKPOINTING = {"none": 0.0, "selective": CHEAP, "full": 1.0}
"""Shares of the forward pass that are done again, by `train.activation_checkpointing`."""

AT_ONCE = 4096
"""Layouts whose memory is reckoned together."""

WIDTHS = 3
"""How many numbers of data-parallel ranks are looked at for each way to part a copy of the network."""

SIZES = {"vpp": "stages_per_rank"}
"""Names of a run's sizes in a `[parallel]` table, where they differ."""


@dataclass(frozen=True)
class Rules:
    """What a network and its trainer allow: precisions to choose from, none where the run's is given; and what is wrong
    with a layout of which columns cannot tell, "" where it is right."""

    precisions: tuple[str, ...] = ()
    problem: Callable[[Run], str] = lambda run: ""


@dataclass(frozen=True)
class Layouts:
    """Layouts that fit, best first: `runs` and the seconds of a step of each; `considered` were looked at."""

    runs: list[Run]
    seconds: list[float]
    considered: int


def rules_of(model: ModelConfig, train: TrainTable) -> Rules:
    """What `troth train` allows."""

    def problem(run: Run) -> str:
        try:
            lay_out(parallel_table(run), model, train, run.world)
        except ValueError as error:
            return str(error)
        return ""

    precisions = ("bf16", "float8") if train.precision == "auto" and train.lora is None else ()
    return Rules(precisions, problem)


def best_layouts(run: Run, rules: Rules, count: int, calibration: Calibration, room: float = ROOM,
                 fixed: dict[str, int] | None = None) -> Layouts:  # fmt: skip
    """The `count` fastest layouts of up to `run.world` GPUs that fit into `room` of a GPU's memory, in whichever of the
    rules' precisions, each with as little recomputation as fits. What `run` says of a layout does not matter; fixed:
    sizes that are given, by names of `Run`.

    Raises ValueError where nothing fits, saying what the smallest layout would need.
    """
    sizes = _grid(run, fixed or {})
    if not len(sizes["tp"]):
        given = "".join(f" {name}={size}" for name, size in (fixed or {}).items())
        raise ValueError(
            f"no layout of up to {run.world:,} GPUs{' with' + given if given else ''} divides the network and a batch "
            f"of {run.sequences:,} sequences; another number of GPUs or batch may, such as powers of two"
        )
    precisions = [name for name in rules.precisions if name in run.gpu.peaks] or [run.precision]
    kinds = [replace(run, precision=name) for name in precisions]
    table, layouts = _columns(kinds, sizes), len(sizes["tp"])
    seconds = step_time(table, calibration).seconds
    found: list[Run] = []
    seen: set[Run] = set()
    times: list[float] = []
    first, smallest = "", np.inf
    order = np.argsort(seconds, kind="stable")
    # Memory takes longer to reckon than time, so that only the fastest are looked at until enough of them fit.
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        held = memory_bytes(table.at(some))
        smallest = min(smallest, float(held.min()))
        for i in some[held <= room * run.gpu.memory]:
            kind, at = divmod(int(i), layouts)
            numbers: dict[str, Any] = {name: int(values[at]) for name, values in sizes.items() if name != "recompute"}
            chosen = replace(kinds[kind], **numbers, recompute=float(sizes["recompute"][at]))
            if (alike := replace(chosen, recompute=0.0)) in seen:  # it fits without doing as much again
                continue
            if problem := rules.problem(chosen):
                first = first or problem
                continue
            seen.add(alike)
            found.append(chosen)
            times.append(float(seconds[i]))
            if len(found) == count:
                return Layouts(found, times, len(seconds))
    if smallest > room * run.gpu.memory:
        raise ValueError(
            f"the network fits into no layout of up to {run.world:,} GPUs {run.gpu.name}: the smallest holds "
            f"{smallest / 1e9:.0f} GB a GPU of {room * run.gpu.memory / 1e9:.0f} GB; more GPUs or ones with more "
            "memory would do"
        )
    if not found:
        raise ValueError(
            f"no layout of up to {run.world:,} GPUs is one that training runs; of the fastest one, {first}"
        )
    return Layouts(found, times, len(seconds))


def parallel_table(run: Run) -> ParallelTable:
    """The `[parallel]` table that trains a run."""
    return ParallelTable(
        pp=run.pp, dp_replicate=run.dp_replicate, dp_shard=run.dp // run.dp_replicate, cp=run.cp, tp=run.tp,
        ep=run.ep, etp=run.etp, micro_batches=int(run.micro_batches),
        schedule="Interleaved1F1B" if run.vpp > 1 else "1F1B", stages_per_rank=run.vpp,
    )  # fmt: skip


def _divisors(whole: int, most: int) -> list[int]:
    return [n for n in range(1, min(whole, most) + 1) if whole % n == 0]


def _grid(run: Run, fixed: dict[str, int]) -> dict[str, Array]:
    """Sizes of all layouts that divide the network, the batch and the GPUs, a column a dimension."""
    d, g = run.dimensions, run.gpu
    free = {
        "tp": [n for n in _divisors(d.heads, min(g.domain, 16)) if d.kv_heads % n == 0 or d.latent],
        "pp": [n for n in range(1, min(d.layers, 64) + 1) if n == 1 or d.layers % n == 0 or n & (n - 1) == 0],
        "cp": [n for n in (1, 2, 4, 8, 16, 32, 64) if n == 1 or n * 1024 <= run.length],
        "ep": _divisors(d.experts, 1024) if d.experts else [1],
    }  # fmt: skip
    lists = [[fixed[name]] if name in fixed else free[name] for name in ("tp", "pp", "cp", "ep")]
    rows = []
    for tp, pp, cp, ep in product(*lists):
        if tp * pp * cp > run.world or run.length % (2 * cp * tp if cp > 1 else tp):
            continue
        # Ranks that read different rows: the most that GPUs, batch and network allow, and fewer by small factors.
        widths = (n for n in reversed(_divisors_of_batch(run.sequences)) if n * tp * pp * cp <= run.world)
        fitting = ((dp, found) for dp in widths if (found := _rest(run, tp, pp, cp, ep, dp, fixed)))
        rows += [(tp, pp, cp, ep, dp, *rest) for dp, found in islice(fitting, WIDTHS) for rest in found]
    names = ("tp", "pp", "cp", "ep", "dp", "dp_replicate", "vpp", "micro_batch", "etp")
    table = np.array(rows, dtype=np.float64).reshape(-1, len(names))
    sizes = dict(zip(names, table.T, strict=True))
    sizes["world"] = sizes["tp"] * sizes["pp"] * sizes["cp"] * sizes.pop("dp")
    shares = list(CHECKPOINTING.values())
    again = np.repeat(shares, len(table))
    return {name: np.tile(values, len(shares)) for name, values in sizes.items()} | {"recompute": again}


@cache
def _divisors_of_batch(sequences: int) -> list[int]:
    small = [n for n in range(1, int(sequences**0.5) + 1) if sequences % n == 0]
    return sorted({*small, *(sequences // n for n in small)})


def _rest(run: Run, tp: int, pp: int, cp: int, ep: int, dp: int, fixed: dict[str, int]) -> list[tuple[int, ...]]:
    """Copies, parts of a pipeline's rank, sequences of a micro-batch and parts of an expert; none where they come out
    even in no way."""
    local, d = run.sequences // dp, run.dimensions
    rows = [n for n in (1, 2, 4, 8, 16) if local % n == 0 and (pp == 1 or local // n % pp == 0)]
    if not rows:
        return []
    # An expert is parted where a rank has no more than one: until then more ranks of `ep` send less.
    parts = [1, tp] if tp > 1 and ep == d.experts and d.moe_ffn % tp == 0 and dp * cp % ep == 0 else [1]
    copies = _copies(dp) if run.sharded else [1]
    shares = product(_given(fixed, "dp_replicate", copies), _given(fixed, "etp", parts))
    ways = [(n, etp) for n, etp in shares if dp % n == 0 and _shares_out(run, dp // n * cp * tp, ep, etp)]
    # Stages of equal length where there are such: longer ones set the pace.
    stages = _divisors(d.layers // pp, 8) if d.layers % pp == 0 else [n for n in (1, 2, 4, 8) if pp * n <= d.layers]
    others = list(product(_given(fixed, "vpp", stages if pp > 1 else [1]), rows))
    return [(n, vpp, micro_batch, etp) for n, etp in ways for vpp, micro_batch in others]


def _given(fixed: dict[str, int], name: str, free: list[int]) -> list[int]:
    return [fixed[name]] if name in fixed else free


def _shares_out(run: Run, ranks: int, ep: int, etp: int) -> bool:
    """Whether the ranks of a copy share the experts out: those that have the same ones get whole ones or equal parts,
    as training asks for."""
    if ranks % ep or (run.sharded and ranks % (ep * etp)):
        return False
    d, held = run.dimensions, max(ranks // (ep * etp), 1)
    return not run.sharded or held <= d.experts // ep or d.moe_ffn // etp % held == 0


@cache
def _copies(dp: int) -> list[int]:
    """Numbers of copies among so many ranks: its divisors, each at least four times the one before."""
    found = [1]
    for n in _divisors(dp, 1024):
        if n >= 4 * found[-1]:
            found.append(n)
    return found


def _columns(kinds: list[Run], sizes: dict[str, Array]) -> Columns:
    """All layouts of each of the kinds of run."""
    rows, layouts = [row_of(run) for run in kinds], len(sizes["tp"])
    same = {name: np.repeat(np.array([row[name] for row in rows], dtype=np.float64), layouts) for name in rows[0]}
    return Columns(same | {name: np.tile(values, len(kinds)) for name, values in sizes.items()})
