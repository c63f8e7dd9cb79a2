"""A day of replicas that follow the load with a lag: a fluid model in ticks, by the rule of `troth serve --replicas`
(a replica for so many requests at work or waiting, after delays) and the time that a new replica takes to start."""

from dataclasses import dataclass

import numpy as np

TICK = 15.0
"""Seconds."""
DAY = 86_400


@dataclass(frozen=True)
class Scaling:
    """From `least` to `most` replicas, each for `rate` requests a second at its planned load and `capacity` at its
    limit. Seconds: `look_back` that a load is averaged over, `up` and `down` until a need is believed, `start` until a
    new replica answers."""

    least: int
    most: int
    rate: float
    capacity: float
    look_back: float
    up: float
    down: float
    start: float


@dataclass(frozen=True)
class Day:
    """What a day took: replicas on average and at most, the share of requests that came while replicas were beyond
    their limit, and the longest that requests had to queue for that, in seconds."""

    mean: float
    most: int
    late_share: float
    longest_wait: float


def follow(scaling: Scaling, load: np.ndarray) -> Day:
    """Replicas under a load given in requests a second, one value a tick."""
    window = max(1, round(scaling.look_back / TICK))
    seen = np.convolve(np.concatenate([np.full(window - 1, load[0]), load]), np.full(window, 1 / window), "valid")
    ready = float(min(scaling.most, max(scaling.least, -(-load[0] // scaling.rate))))
    starting: list[tuple[float, float]] = []
    believed_up = believed_down = 0.0
    queue = served_late = longest = total = 0.0
    most = ready
    for tick, (rate, mean) in enumerate(zip(load.tolist(), seen.tolist(), strict=True)):
        now = tick * TICK
        while starting and starting[0][0] <= now:
            ready += starting.pop(0)[1]
        coming = ready + sum(count for _, count in starting)
        # Those that queue are at work or waiting too, and ask for replicas as well.
        wanted = -(-(mean + queue / scaling.look_back) // scaling.rate)
        wanted = min(float(scaling.most), max(float(scaling.least), wanted))
        believed_up = believed_up + TICK if wanted > coming else 0.0
        believed_down = believed_down + TICK if wanted < ready and not starting else 0.0
        if believed_up > scaling.up:
            starting.append((now + scaling.start, wanted - coming))
            believed_up = 0.0
        if believed_down > scaling.down:
            ready, believed_down = wanted, 0.0
        before = queue
        queue = max(0.0, queue + (rate - ready * scaling.capacity) * TICK)
        if queue > 0 or before > 0:
            served_late += rate * TICK
            longest = max(longest, queue / (ready * scaling.capacity))
        total += ready + sum(count for _, count in starting)
        most = max(most, ready)
    return Day(total / len(load), int(most), served_late / max(float(load.sum()) * TICK, 1e-9), longest)


def takeover(scaling: Scaling, before: float, after: float) -> tuple[float, float]:
    """Seconds until replicas that had `before` requests a second have caught up with `after` of them, which they
    suddenly get, and the longest wait in a queue meanwhile; infinite where `most` replicas do not suffice."""
    ready = min(scaling.most, max(scaling.least, -(-before // scaling.rate)))
    over = after - ready * scaling.capacity
    if over <= 0:
        return 0.0, 0.0
    then = min(scaling.most, -(-after // scaling.rate)) * scaling.capacity
    if then <= after:
        return float("inf"), float("inf")
    lag = scaling.look_back + scaling.up + scaling.start
    queue = over * lag
    return lag + queue / (then - after), queue / then
