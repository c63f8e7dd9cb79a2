"""What targets a replica can reach at all, and why not more: a prompt's tokens must be computed, and light is slow."""

import numpy as np

from troth.plan.serving.replica import Need, Targets, prefill_seconds
from troth.plan.serving.roofline import Roofline
from troth.plan.serving.traffic import Requests

ROOM = 3.0
"""A target that cannot be reached gives way to this many times the least that can: queues need some."""


def reachable(found: list[Roofline], need: Need, targets: Targets, network: float) -> tuple[Targets, list[str]]:
    """The targets to plan for, without the network, and a line for each that had to give way."""
    said = []
    seconds, one = min(((prefill_seconds(r, need.late, need.late_seen), r) for r in found), key=lambda pair: pair[0])
    ttft = targets.ttft - network
    if ttft < seconds * 1.1:
        ttft = ROOM * seconds
        said.append(
            f"a first token within {_ms(targets.ttft)} cannot be had for {targets.percentile:.0%} of requests: their "
            f"prompts have up to {need.late:,.0f} new tokens, which take {_ms(seconds)} on the quickest replica "
            f"({one.shape.gpus} GPUs) while it is idle, and the network takes {_ms(network)}: the smallest reachable "
            f"is {_ms(seconds + network)}; planned for {_ms(ttft + network)}"
        )
    least, quickest = min(((float(r.step(1, need.context).seconds), r) for r in found), key=lambda pair: pair[0])
    tpot = targets.tpot
    if tpot < least * 1.2:
        tpot = ROOM * least
        said.append(
            f"{_ms(targets.tpot)} for each further token cannot be had: a step with one sequence takes {_ms(least)} on "
            f"the quickest replica ({quickest.shape.gpus} GPUs); planned for {_ms(tpot)}"
        )
    return Targets(ttft, tpot, targets.percentile), said


def share_within(one: Roofline, requests: Requests, seconds: float) -> float:
    """The share of requests whose prompt an idle replica computes in time."""
    lengths = np.unique(np.geomspace(1, max(2, int(requests.new.max())), 64).round())
    known = float(requests.cached.mean())
    times = np.array([prefill_seconds(one, new, known + new / 2) for new in lengths])
    return float((np.interp(requests.new, lengths, times) <= seconds).mean())


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms"
