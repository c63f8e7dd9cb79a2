"""A few replicas simulated for many: what their users wait, at the load that the fleet gives each replica."""

from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from troth.plan.serving.clock import Clock
from troth.plan.serving.memory import most_sequences
from troth.plan.serving.queueing import Limits, Outcome, simulate
from troth.plan.serving.replica import Choice, Need, Targets
from troth.plan.serving.roofline import Roofline
from troth.plan.serving.traffic import Requests, Traffic, arrivals

MOST_REQUESTS = 5000
"""Of a simulation, which takes about a tenth of a second."""
STEP_TOKENS = 8192
"""Prompt tokens of a group in one step at most."""
TOGETHER = 4
"""Replicas of one kind that stand for all."""


@dataclass(frozen=True)
class Percentiles:
    """Seconds at 50, 90 and 99% of requests, the network left out; `within` is the share that meets both targets, with
    the network; `busy` shares of time in steps (prefill, decode); `hits` the share of prompt tokens from the cache."""

    ttft: tuple[float, float, float]
    tpot: tuple[float, float, float]
    within: float
    busy: tuple[float, float]
    hits: float
    requests: int
    seconds: float


@dataclass(frozen=True)
class Group:
    """What is simulated: a choice and its replicas' rooflines."""

    choice: Choice
    prefill: Roofline
    decode: Roofline
    need: Need
    targets: Targets
    traffic: Traffic
    longest: int

    def measure(self, rate: float, network: float, targets: Targets, seconds: float, rng: np.random.Generator
                ) -> tuple[Percentiles, float]:  # fmt: skip
        """Percentiles where each decode replica gets `rate` requests a second, and the TTFT at the targets' percentile,
        the network included. Those of the first third are left out: the batch has to fill."""
        decodes, prefills = self._sizes()
        span = min(seconds, MOST_REQUESTS / (rate * decodes))
        requests = arrivals(self.traffic, rate * decodes, span, self.longest, rng)
        if self.choice.prefill:
            before, after = self._apart(requests, prefills, decodes)
            busy = (before.busy, after.busy)
        else:
            before = after = simulate(self._clock(self.decode), self._limits(), requests, decodes)
            busy = (after.busy, after.busy)
        counted = requests.at >= requests.at[-1] / 3
        ttft, tpot = before.ttft[counted], after.tpot[counted]
        within = (ttft + network <= targets.ttft) & (tpot <= targets.tpot)
        found = Percentiles(
            _three(ttft), _three(tpot), float(within.mean()), busy, before.hits, len(requests.at), span
        )
        return found, float(np.quantile(ttft, targets.percentile)) + network

    def _sizes(self) -> tuple[int, int]:
        """Decode and prefill replicas: as few as stand to each other nearly as the fleet's do."""
        if not self.choice.prefill:
            return TOGETHER, 0
        ratio = self.choice.rate / self.choice.prefill_rate
        decodes = min((1, 2, 3), key=lambda count: ceil(count * ratio) / (count * ratio))
        return decodes, ceil(decodes * ratio)

    def _clock(self, one: Roofline) -> Clock:
        return Clock(one, self.need.context, self.need.seen)

    def _limits(self) -> Limits:
        one, need = self.decode, self.need
        most = most_sequences(one, need.context)
        return Limits(max(1, int(most)), most * need.context, STEP_TOKENS * one.shape.groups, self.targets.tpot)

    def _apart(self, requests: Requests, prefills: int, decodes: int) -> tuple[Outcome, Outcome]:
        one, clock = self.prefill, self._clock(self.prefill)
        groups = one.shape.groups
        # Who comes while a step runs waits for its end: steps stay short beside the target.
        step = clock.prompt_budget(0, 0, self.targets.ttft / 2, groups)
        cached = most_sequences(one, self.need.context) * self.need.context
        limits = Limits(1 << 20, cached, min(STEP_TOKENS * groups, step), inf)
        before = simulate(clock, limits, requests, prefills, decode=False)
        order = np.argsort(before.first, kind="stable")
        moved = Requests(
            before.first[order] + self.choice.transfer, requests.prompt[order], requests.prompt[order],
            requests.prompt[order], np.maximum(requests.answer[order], 2), requests.conversation[order],
        )  # fmt: skip
        after = simulate(self._clock(self.decode), self._limits(), moved, decodes, prefilled=True)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        # From the first token, which prefill gives, to the last, the transfer included.
        tpot = (after.last[back] - before.first) / np.maximum(requests.answer - 1, 1)
        return before, Outcome(after.ttft[back], tpot, after.first[back], after.last[back], after.busy, after.hits)


def _three(seconds: np.ndarray) -> tuple[float, float, float]:
    low, middle, high = np.quantile(seconds, (0.5, 0.9, 0.99))
    return float(low), float(middle), float(high)
