"""A few replicas simulated for many: what their users wait, at the load that the fleet gives each replica."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from troth.plan.serving.clock import Clock
from troth.plan.serving.memory import most_at_once, most_sequences
from troth.plan.serving.queueing import Limits, Outcome, simulate
from troth.plan.serving.replica import Choice, Need, Targets
from troth.plan.serving.roofline import Roofline
from troth.plan.serving.traffic import Requests, Traffic, arrivals, sample

STEP_TOKENS = 8192
"""Prompt tokens of a group in one step at most."""
TOGETHER = 4
"""Replicas of one kind that stand for all."""


@dataclass(frozen=True)
class Percentiles:
    """Seconds at 50, 90 and 99% of requests, the network left out; `within` is the share that meets both targets, with
    the network, `at_percentile` the TTFT at the targets' percentile; `busy` shares of time in steps (prefill, decode);
    `hits` the share of prompt tokens from the cache."""

    ttft: tuple[float, float, float]
    tpot: tuple[float, float, float]
    at_percentile: float
    within: float
    busy: tuple[float, float]
    hits: float
    requests: int
    seconds: float


@dataclass(frozen=True)
class Group:
    """What is simulated: a choice and its replicas' rooflines, with at most so many requests."""

    choice: Choice
    prefill: Roofline
    decode: Roofline
    need: Need
    targets: Targets
    traffic: Traffic
    longest: int
    most_requests: int

    def measure(
        self, rate: float, network: float, targets: Targets, seconds: float, rng: np.random.Generator, full: float = 1
    ) -> Percentiles:
        """What users wait where each decode replica gets `rate` requests a second, and prefill replicas are there for
        decode replicas that are `full`, a share of what they are planned for. Answers are underway as the load has
        them; the first quarter of requests is left out, in which prompts begin to queue."""
        decodes, prefills = self._sizes(full)
        span = min(seconds, self.most_requests / (rate * decodes))
        requests = arrivals(self.traffic, rate * decodes, span, self.longest, rng)
        underway = self._underway(rate * decodes, decodes, rng)
        if self.choice.prefill:
            before, after = self._apart(requests, underway, prefills, decodes)
            busy = (before.busy, after.busy)
        else:
            clock = self._clock(self.decode)
            before = after = simulate(clock, self._limits(), requests, decodes, underway=underway)
            busy = (after.busy, after.busy)
        counted = requests.at >= requests.at[-1] / 4
        ttft, tpot = before.ttft[counted], after.tpot[counted]
        within = (ttft + network <= targets.ttft) & (tpot <= targets.tpot)
        return Percentiles(
            _three(ttft), _three(tpot), float(np.quantile(ttft, targets.percentile)), float(within.mean()), busy,
            before.hits, len(requests.at), span,
        )  # fmt: skip

    def _underway(self, rate: float, decodes: int, rng: np.random.Generator) -> Requests:
        """Answers that are being given at a moment: as many as come in the time of one (Little), long ones more often
        than they are asked for, each somewhere between its beginning and its end."""
        drawn = sample(self.traffic, 4000, self.longest, rng)
        most = most_at_once(self.decode, self.need.context) * decodes
        count = min(most, max(1, round(rate * self.need.answer * self.choice.tpot)))
        chosen = rng.choice(len(drawn.answer), count, p=drawn.answer / drawn.answer.sum())
        said = (drawn.answer[chosen] * rng.random(count)).astype(int)
        prompt, left = drawn.prompt[chosen] + said, drawn.answer[chosen] - said
        return Requests(np.zeros(count), prompt, prompt, prompt, left, np.arange(count))

    def _sizes(self, full: float) -> tuple[int, int]:
        """Decode and prefill replicas: as few as stand to each other nearly as the fleet's do."""
        if not self.choice.prefill:
            return TOGETHER, 0
        ratio = full * self.choice.rate / self.choice.prefill_rate
        decodes = min((1, 2, 3), key=lambda count: ceil(count * ratio) / (count * ratio))
        return decodes, ceil(decodes * ratio)

    def _clock(self, one: Roofline) -> Clock:
        return Clock(one, self.need.context, self.need.seen)

    def _limits(self) -> Limits:
        one, need = self.decode, self.need
        held = most_sequences(one, need.context) * need.context
        return Limits(most_at_once(one, need.context), held, STEP_TOKENS, self.targets.tpot)

    def _apart(self, requests: Requests, underway: Requests, prefills: int, decodes: int) -> tuple[Outcome, Outcome]:
        one, clock = self.prefill, self._clock(self.prefill)
        before = simulate(clock, prefill_limits(one, self.need, self.targets), requests, prefills, decode=False)
        order = np.argsort(before.first, kind="stable")
        moved = Requests(
            before.first[order] + self.choice.transfer, requests.prompt[order], requests.prompt[order],
            requests.prompt[order], np.maximum(requests.answer[order], 2), requests.conversation[order],
        )  # fmt: skip
        after = simulate(self._clock(self.decode), self._limits(), moved, decodes, prefilled=True, underway=underway)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        # From the first token, which prefill gives, to the last, the transfer included.
        tpot = (after.last[back] - before.first) / np.maximum(requests.answer - 1, 1)
        return before, Outcome(after.ttft[back], tpot, after.first[back], after.last[back], after.busy, after.hits)


def prefill_limits(one: Roofline, need: Need, targets: Targets) -> Limits:
    """Of a replica for prefill alone. Who comes while a step runs waits for its end: steps stay short beside the
    target, but not so short that they do little besides reading weights."""
    cached = most_sequences(one, need.context) * need.context
    least = float(one.step(0, 0, 1.0, need.seen).seconds)
    return Limits(1 << 20, cached, STEP_TOKENS, max(targets.ttft / 3, 2 * least))


def _three(seconds: np.ndarray) -> tuple[float, float, float]:
    low, middle, high = np.quantile(seconds, (0.5, 0.9, 0.99))
    return float(low), float(middle), float(high)
