"""The way to serve: formulas propose replicas, a short simulation of each says what load it bears."""

from dataclasses import replace

import numpy as np

from troth.model.config import ModelConfig
from troth.plan.serving.clock import Clock
from troth.plan.serving.group import Group, prefill_limits
from troth.plan.serving.queueing import simulate
from troth.plan.serving.replica import Choice, Need, Targets, decoding, prefilling, together, transfer_seconds
from troth.plan.serving.roofline import Roofline
from troth.plan.serving.traffic import Traffic, arrivals

TRIED = 3
"""Prefill replicas of those that the formula puts first."""
SHARES = (1.0, 0.8, 0.65, 0.5, 0.35, 0.2)
"""Of the load that formulas give, until one is borne."""
REQUESTS = 600
"""Of each trial."""


def choose(
    found: list[Roofline], need: Need, targets: Targets, traffic: Traffic, longest: int, both: bool, seed: int
) -> Choice:
    """The way with fewest GPUs for a request a second; with `both` only one where a replica does both.

    Raises ValueError where none meets the targets.
    """
    ways = []
    if one := together(found, need, targets):
        ways.append(_borne_together(one, found[0].model, need, targets, traffic, longest, seed))
    decode = None if both else decoding(found, need, targets)
    if decode:
        tried = [(_borne(one, rate, need, targets, traffic, longest, seed), one)
                 for one, rate in prefilling(found, need, targets)[:TRIED]]  # fmt: skip
        ways += [
            replace(decode, prefill=one.shape, prefill_rate=rate,
                    transfer=transfer_seconds(one, Roofline(one.model, decode.decode), need.prompt))
            for rate, one in tried if rate
        ]  # fmt: skip
    possible = [way for way in ways if way]
    if not possible:
        raise ValueError(
            f"a first token within {targets.ttft * 1e3:.0f} ms and {targets.tpot * 1e3:.0f} ms for each further one: "
            f"no replica gives both to {targets.percentile:.0%} of requests; allow more time for either, a lower "
            f"percentile, or {'prefill apart' if both else 'larger replicas'}"
        )
    return min(possible, key=lambda way: way.gpus_per_rate)


def _borne(
    one: Roofline, rate: float, need: Need, targets: Targets, traffic: Traffic, longest: int, seed: int
) -> float:
    """Requests a second at which a prefill replica meets the TTFT in the simulation; 0 where at none."""
    clock, limits = Clock(one, need.context, need.seen), prefill_limits(one, need, targets)
    for share in SHARES:
        rng = np.random.default_rng(seed)
        requests = arrivals(traffic, rate * share, REQUESTS / (rate * share), longest, rng)
        ttft = simulate(clock, limits, requests, 1, decode=False).ttft[len(requests.at) // 4 :]
        if np.quantile(ttft, targets.percentile) <= targets.ttft:
            return rate * share
    return 0.0


def _borne_together(
    choice: Choice, model: ModelConfig, need: Need, targets: Targets, traffic: Traffic, longest: int, seed: int
) -> Choice | None:
    """The choice at the load at which it meets both targets in the simulation; None where at none."""
    one = Roofline(model, choice.decode)
    for share in SHARES:
        tried = replace(choice, rate=choice.rate * share)
        group = Group(tried, one, one, need, targets, traffic, longest, REQUESTS)
        rng = np.random.default_rng(seed)
        found = group.measure(tried.rate, 0.0, targets, REQUESTS / tried.rate, rng)
        if found.at_percentile <= targets.ttft:
            return tried
    return None
