"""The way to serve: formulas propose replicas, a short simulation of each says what load it bears."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from troth.model.config import ModelConfig
from troth.plan.serving.clock import Clock
from troth.plan.serving.group import Group, prefill_limits
from troth.plan.serving.queueing import simulate
from troth.plan.serving.replica import Choice, Need, Targets, decoding, prefilling, together, transfer_seconds
from troth.plan.serving.roofline import Roofline
from troth.plan.serving.traffic import Traffic, arrivals

TRIED = 2
"""Prefill replicas of those that the formula puts first."""
SHARES = (0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0)
"""Of the load that formulas give; the most that is borne is taken."""
REQUESTS = 400
"""Of each trial."""


def choose(
    found: list[Roofline], need: Need, targets: Targets, traffic: Traffic, rate: float, longest: int, both: bool,
    seed: int,
) -> Choice:  # fmt: skip
    """The way with fewest GPUs for `rate` requests a second; with `both` only one where a replica does both.

    Raises ValueError where none meets the targets.
    """
    ways = []
    if one := together(found, need, targets, rate):
        ways.append(_borne_together(one, found[0].model, need, targets, traffic, longest, seed))
    decode = None if both else decoding(found, need, targets, rate)
    if decode:
        tried = [(_borne(one, taken, need, targets, traffic, longest, seed), one)
                 for one, taken in prefilling(found, need, targets, rate)[:TRIED]]  # fmt: skip
        ways += [
            replace(decode, prefill=one.shape, prefill_rate=taken,
                    transfer=transfer_seconds(one, Roofline(one.model, decode.decode), need.prompt))
            for taken, one in tried if taken
        ]  # fmt: skip
    possible = [way for way in ways if way]
    if not possible:
        raise ValueError(
            f"a first token within {targets.ttft * 1e3:.0f} ms and {targets.tpot * 1e3:.0f} ms for each further one: "
            f"no replica gives both to {targets.percentile:.0%} of requests; allow more time for either, a lower "
            f"percentile, or {'prefill apart' if both else 'larger replicas'}"
        )
    return min(possible, key=lambda way: way.gpus(rate))


def _borne(
    one: Roofline, rate: float, need: Need, targets: Targets, traffic: Traffic, longest: int, seed: int
) -> float:
    """Requests a second at which a prefill replica meets the TTFT in the simulation; 0 where at none."""
    clock, limits = Clock(one, need.context, need.seen), prefill_limits(one, need, targets)

    def meets(share: float) -> bool:
        requests = arrivals(
            traffic, rate * share, REQUESTS / (rate * share), longest, np.random.default_rng(seed)
        )  # fmt: skip
        ttft = simulate(clock, limits, requests, 1, decode=False).ttft[len(requests.at) // 4 :]
        return bool(np.quantile(ttft, targets.percentile) <= targets.ttft)

    return rate * _most(meets)


def _borne_together(
    choice: Choice, model: ModelConfig, need: Need, targets: Targets, traffic: Traffic, longest: int, seed: int
) -> Choice | None:
    """The choice at the load at which it meets both targets in the simulation; None where at none."""
    one = Roofline(model, choice.decode)

    def meets(share: float) -> bool:
        tried = replace(choice, rate=choice.rate * share)
        group = Group(tried, one, one, need, targets, traffic, longest, REQUESTS)
        found = group.measure(tried.rate, 0.0, targets, REQUESTS / tried.rate, np.random.default_rng(seed))
        return found.at_percentile <= targets.ttft

    share = _most(meets)
    return replace(choice, rate=choice.rate * share) if share else None


def _most(meets: Callable[[float], bool]) -> float:
    """The largest of the shares that meets the target, by halves; 0 where none does."""
    low, high = 0, len(SHARES)
    while low < high:
        middle = (low + high) // 2
        if meets(SHARES[middle]):
            low = middle + 1
        else:
            high = middle
    return SHARES[low - 1] if low else 0.0
