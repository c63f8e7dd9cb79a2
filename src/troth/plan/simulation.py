"""The rules of `goodput.py` played event by event, with failures drawn from a generator that is handed in."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from troth.plan.goodput import Replicas, Restart, Saving, Spares, Strategy

BATCHES = 40
"""Stretches of a simulation whose means give its standard error."""


@dataclass(frozen=True)
class Simulated:
    """Share of time that was lasting progress, with its standard error, over that many seconds and failures."""

    share: float
    error: float
    seconds: float
    failures: int


def simulate(
    mtbf: float,
    saving: Saving,
    interval: float,
    strategy: Strategy,
    failures: int,
    rng: np.random.Generator,
) -> Simulated:
    """A run until it has failed that often. mtbf in seconds, of all ranks together."""
    each = max(failures // BATCHES, 1)
    if isinstance(strategy, Replicas):
        stretches = _replicas(mtbf, saving, interval, strategy, each, rng)
    else:
        stretches = _world(mtbf, saving, interval, strategy, each, rng)
    progress, seconds = np.array([next(stretches) for _ in range(BATCHES)]).T
    share = progress.sum() / seconds.sum()
    # Of a ratio of sums: the spread of progress - share x seconds.
    error = np.std(progress - share * seconds, ddof=1) / np.sqrt(BATCHES) / seconds.mean()
    return Simulated(float(share), float(error), float(seconds.sum()), each * BATCHES)


def _world(
    mtbf: float, saving: Saving, interval: float, strategy: Restart | Spares, each: int, rng: np.random.Generator
) -> Iterator[tuple[float, float]]:
    """Progress and seconds of stretches of `each` failures, where all ranks stop at each of them."""
    spares = strategy.nodes if isinstance(strategy, Spares) else 0
    clock, back = 0.0, list[float]()
    while True:
        progress, began = 0.0, clock
        up = rng.exponential(mtbf, each)
        repairs = rng.exponential(strategy.repair, each) if isinstance(strategy, Spares) else np.zeros(each)
        for until_failure, repair in zip(up.tolist(), repairs.tolist(), strict=True):
            failure = clock + until_failure
            # Restart, then work, save, work, save; a save is safe once it is written.
            safe = clock + strategy.seconds + interval + saving.stall + saving.write
            if safe <= failure:
                progress += interval * (1 + (failure - safe) // (interval + saving.stall))
            clock = failure
            while back and back[0] <= clock:
                heapq.heappop(back)
            if repair:
                heapq.heappush(back, clock + repair)
            if len(back) > spares:
                clock = heapq.heappop(back)
        yield progress, clock - began


def _replicas(
    mtbf: float, saving: Saving, interval: float, replicas: Replicas, each: int, rng: np.random.Generator
) -> Iterator[tuple[float, float]]:
    """Progress and seconds of stretches of `each` failures, where groups leave and join and the others go on."""
    group_mtbf = mtbf * replicas.groups
    drawn = _exponentials(group_mtbf, rng)
    # Each group's next change: the time, and whether it is there until then.
    changes = [(next(drawn), True) for _ in range(replicas.groups)]
    heapq.heapify(changes)
    there, clock, paused_until = replicas.groups, 0.0, 0.0
    working = interval / (interval + saving.stall) / replicas.groups
    while True:
        progress, began, failed = 0.0, clock, 0
        while failed < each:
            now, leaves = changes[0]
            progress += there * working * max(now - max(clock, paused_until), 0.0)
            clock, paused_until = now, now + replicas.pause
            if leaves:
                failed += 1
                there -= 1
                away = 0.0
                while (attempt := next(drawn)) < replicas.heal:
                    away += attempt
                heapq.heapreplace(changes, (now + away + replicas.heal, False))
            else:
                there += 1
                heapq.heapreplace(changes, (now + next(drawn), True))
        yield progress, clock - began


def _exponentials(mean: float, rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.exponential(mean, 10_000).tolist()
