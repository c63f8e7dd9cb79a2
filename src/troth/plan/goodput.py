"""Share of a run's time that lasts as progress, when GPUs fail without memory and independently, in closed form.

Restarting the world and hot spares: Daly's exact expectation (2006) by renewal, with writes in the background; spares
run out as calls are lost in Erlang's formula. Replica groups (torchft; Llama 4's fault-tolerant HSDP): independent
on-off processes. `simulation.py` plays the same rules event by event.
"""

import math
from dataclasses import dataclass

from troth.plan.failures import FailureRate, optimal_interval

GPUS_PER_NODE = 8
"""That fail, save and are replaced together."""


@dataclass(frozen=True)
class Saving:
    """Seconds of a checkpoint: `stall` in which no step runs, `write` from the stall's end until it is safe.

    step: least seconds of work between two of them, one step of the optimizer.
    """

    stall: float
    write: float = 0.0
    step: float = 0.0

    def best_interval(self, mtbf: float) -> float:
        """Seconds of work between saves, where all that was done since the last is lost every `mtbf` seconds."""
        return max(optimal_interval(self.stall, mtbf, self.write), self.step)


@dataclass(frozen=True)
class Restart:
    """Restart the world: after a failure nothing runs for `seconds` (detect, replace the node, load, start)."""

    seconds: float


@dataclass(frozen=True)
class Spares:
    """Hot spares: `nodes` wait; one takes the failed one's place, restart included, in `seconds`.

    A failed node is back after `repair` seconds on average; while more than `nodes` are away nothing runs.
    """

    nodes: int
    seconds: float
    repair: float


@dataclass(frozen=True)
class Replicas:
    """`groups` hold all weights each. One that fails is away for `heal` seconds (replace, copy from a peer, start).

    It heals anew if it fails meanwhile. Others go on, held up for `pause` seconds (a lost step, a new quorum) whenever
    a group leaves or joins; pause is at most heal. Progress goes with the groups that are there.
    """

    groups: int
    heal: float
    pause: float


Strategy = Restart | Spares | Replicas


@dataclass(frozen=True)
class Goodput:
    """Share of time, and of the time of all GPUs paid for, spares included; interval: seconds of work between saves."""

    share: float
    of_paid: float
    interval: float
    mtbf: float


def restart_goodput(mtbf: float, saving: Saving, interval: float, restart: float) -> float:
    """Share of time that is lasting progress where all ranks stop at each failure and go back to the last safe save.

    Saves become safe at write + k (interval + stall), k = 1, 2, ... after a restart, and a failure ends the count. With
    exponential failures the count's expectation over that of a cycle, mtbf exp(restart / mtbf) as a restart can fail
    too, is the share. With write = 0 this is Daly's exact formula; for short intervals 1 - (restart + interval / 2) /
    mtbf - stall / interval, which is the ETTR of 2410.21680.
    """
    period = interval + saving.stall
    if saving.write > period * (1 + 1e-9):
        raise ValueError(f"interval {interval:g} s: the write of {saving.write:g} s does not end before the next save")
    # exp(-period / mtbf) / (1 - exp(-period / mtbf)) is the expected count of periods, without overflow.
    return interval / mtbf * math.exp(-(saving.write + restart + period) / mtbf) / -math.expm1(-period / mtbf)


def erlang_loss(servers: int, load: float) -> float:
    """Share of time that all servers are busy, at a load of arrivals times mean service (Erlang's B, any service)."""
    busy = 1.0
    for server in range(1, servers + 1):
        busy = load * busy / (server + load * busy)
    return busy


def spares_needed(mtbf: float, repair: float, stopped: float = 0.001) -> int:
    """Fewest spare nodes with which the run waits for a repair at most that share of the time."""
    load, spares, busy = repair / mtbf, 0, repair / mtbf / (1 + repair / mtbf)
    while busy > stopped:
        spares += 1
        busy = load * busy / (spares + 1 + load * busy)
    return spares


def replica_goodput(mtbf: float, saving: Saving, interval: float, replicas: Replicas) -> float:
    """Share of the progress of all groups with no failure.

    Each group is there for mtbf x groups on average and away for a time T with E[T] = that x (exp(heal / that) - 1), as
    healing can fail. The survivors progress unless some group left or joined in the last `pause` seconds; groups being
    independent, the share is P(one is there and did neither) P(another did neither)^(groups - 1). Saves take stall
    every interval. Not counted: the loss of all groups at once (`all_groups_lost`), when the run restarts from a save.
    """
    if replicas.groups < 2:
        raise ValueError(f"replica groups {replicas.groups}: expected at least 2, as a lost one heals from another")
    if replicas.pause > replicas.heal:
        raise ValueError(f"pause {replicas.pause:g} s: longer than heal, {replicas.heal:g} s")
    group_mtbf = mtbf * replicas.groups
    there = math.exp(-replicas.heal / group_mtbf)
    steady = there * math.exp(-replicas.pause / group_mtbf)
    away_throughout = 1 - there - there * replicas.pause / group_mtbf
    quiet = (steady + away_throughout) ** (replicas.groups - 1)
    return steady * quiet * interval / (interval + saving.stall)


def all_groups_lost(mtbf: float, replicas: Replicas) -> float:
    """Seconds on average between losses of the last group that was there. Below days the share above is too good."""
    away = -math.expm1(-replicas.heal / (mtbf * replicas.groups))
    per_second = (1 - away) * away ** (replicas.groups - 1) / mtbf
    return 1 / per_second if per_second else math.inf


def goodput(rate: FailureRate, gpus: int, saving: Saving, strategy: Strategy) -> Goodput:
    """Of a run on `gpus` (active, spares beside them) that saves as often as is best."""
    mtbf = rate.mtbf(gpus)
    match strategy:
        case Restart(seconds=restart):
            every = saving.best_interval(mtbf)
            share, spare = restart_goodput(mtbf, saving, every, restart), 0
        case Spares(nodes=nodes, seconds=swap, repair=repair):
            every = saving.best_interval(mtbf)
            running = 1 - erlang_loss(nodes + 1, repair / mtbf)
            share, spare = running * restart_goodput(mtbf, saving, every, swap), nodes * GPUS_PER_NODE
        case Replicas() as replicas:
            # Saves guard only against the loss of all groups, so they can be as rare as a group's failures make best.
            every = saving.best_interval(mtbf * replicas.groups)
            share, spare = replica_goodput(mtbf, saving, every, replicas), 0
    return Goodput(share, share / (1 + spare / gpus), every, mtbf)
