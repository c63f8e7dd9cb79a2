"""Requests through replicas step by step: continuous batching (Orca, OSDI '22) with chunked prefill (Sarathi-Serve,
2403.02310) or with prefill and decode apart (DistServe, 2401.09670), as a discrete-event simulation.

A step's tokens are shared as the engine's scheduler does: who decodes is in every step; of the rest, half is for the
prompt that came first, half for those with least to compute. Requests go to their conversation's replica while that has
room, else to the least loaded one.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from troth.plan.serving.clock import Clock
from troth.plan.serving.traffic import Requests


@dataclass(frozen=True)
class Limits:
    """Of each replica: sequences at once, tokens that its cache holds, prompt tokens of a group in a step, and seconds
    that a step should not exceed."""

    max_batch: int
    cache_tokens: float
    max_step_tokens: int
    step_seconds: float


@dataclass(frozen=True)
class Outcome:
    """Arrays, one entry a finished request: seconds to the first token and, on average, to each further one; when the
    first and the last came. `busy` is the share of time in steps until the last request came, `hits` the share of
    prompt tokens found cached."""

    ttft: np.ndarray
    tpot: np.ndarray
    first: np.ndarray
    last: np.ndarray
    busy: float
    hits: float


@dataclass
class _Replica:
    waiting: deque[int] = field(default_factory=deque)
    prompts: list[list[int]] = field(default_factory=list)
    """[request, tokens computed, tokens left] in order of arrival."""
    ends: list[tuple[int, int]] = field(default_factory=list)
    """Heap of (step in which the last token comes, request)."""
    steps: int = 0
    contexts: float = 0.0
    held: float = 0.0
    running: bool = False
    busy: float = 0.0

    @property
    def at_work(self) -> int:
        return len(self.prompts) + len(self.ends)

    @property
    def load(self) -> int:
        return self.at_work + len(self.waiting)


def simulate(clock: Clock, limits: Limits, requests: Requests, replicas: int, decode: bool = True,
             prefilled: bool = False, underway: Requests | None = None) -> Outcome:  # fmt: skip
    """Send the requests through so many replicas until all are finished.

    Without `decode` a request ends with its first token; `prefilled` ones come with their prompt computed, and their
    first token is the second of the answer. Answers that are `underway` at the beginning have so much left to say.
    """
    simulation = _Simulation(clock, limits, requests, replicas, decode, prefilled)
    if underway is not None:
        simulation.load(underway)
    return simulation.run()


class _Simulation:
    def __init__(self, clock: Clock, limits: Limits, requests: Requests, replicas: int, decode: bool, prefilled: bool):
        self.clock, self.limits = clock, limits
        self.at = requests.at.tolist()
        self.prompt, self.cached = requests.prompt.tolist(), requests.cached.tolist()
        self.shared, self.home = requests.shared.tolist(), (requests.conversation % replicas).tolist()
        self.answer = requests.answer.tolist()
        self.decode, self.prefilled = decode, prefilled
        self.replicas = [_Replica() for _ in range(replicas)]
        self.first, self.last = list(self.at), list(self.at)
        self.found_cached = 0
        self.ending: list[tuple[float, int, Callable[[float], None]]] = []

    def load(self, underway: Requests) -> None:
        """Put answers that have begun into the replicas."""
        for prompt, answer in zip(underway.prompt.tolist(), underway.answer.tolist(), strict=True):
            request = len(self.prompt)
            self.prompt.append(prompt)
            self.answer.append(answer)
            self.last.append(0.0)
            replica = self.replicas[request % len(self.replicas)]
            replica.held += prompt + answer
            replica.contexts += prompt + 1
            heapq.heappush(replica.ends, (max(1, answer - 1), request))

    def run(self) -> Outcome:
        """Arrivals and ends of steps in order of time."""
        following, count, now = 0, len(self.at), 0.0
        for number in range(len(self.replicas)):
            self._start(number, now)
        while following < count or self.ending:
            if following < count and (not self.ending or self.at[following] <= self.ending[0][0]):
                now = self.at[following]
                self._route(following, now)
                following += 1
            else:
                now, _, end = heapq.heappop(self.ending)
                end(now)
        first, last, at = np.array(self.first), np.array(self.last[:count]), np.array(self.at)
        further = np.array(self.answer[:count]) - (0 if self.prefilled else 1)
        return Outcome(
            ttft=first - at,
            tpot=np.where(further > 0, (last - first) / np.maximum(further, 1), 0.0),
            first=first,
            last=last,
            busy=sum(replica.busy for replica in self.replicas) / max(self.at[-1], 1e-9) / len(self.replicas),
            hits=self.found_cached / max(1, sum(self.prompt[:count])),
        )

    def _route(self, request: int, now: float) -> None:
        chosen = self.home[request]
        if self.replicas[chosen].load >= self.limits.max_batch:
            chosen = min(range(len(self.replicas)), key=lambda number: self.replicas[number].load)
        if chosen != self.home[request]:
            self.cached[request] = self.shared[request]
        self.found_cached += self.cached[request]
        self.replicas[chosen].waiting.append(request)
        if not self.replicas[chosen].running:
            self._start(chosen, now)

    def _admit(self, replica: _Replica) -> None:
        while replica.waiting and replica.at_work < self.limits.max_batch:
            request = replica.waiting[0]
            tokens = self.prompt[request] + (self.answer[request] if self.decode else 0)
            if replica.held + tokens > self.limits.cache_tokens and replica.at_work:
                return
            replica.waiting.popleft()
            replica.held += tokens
            if self.prefilled:
                replica.contexts += self.prompt[request] + 1
                heapq.heappush(replica.ends, (replica.steps + max(1, self.answer[request] - 1), request))
            else:
                cached = min(self.cached[request], self.prompt[request] - 1)
                replica.prompts.append([request, cached, self.prompt[request] - cached])

    def _start(self, number: int, now: float) -> None:
        """Begin the replica's next step, if there is anything to do."""
        replica, limits = self.replicas[number], self.limits
        self._admit(replica)
        decoding, prompt = len(replica.ends), 0
        replica.running = bool(decoding or replica.prompts)
        if not replica.running:
            return
        shares: list[tuple[list[int], int]] = []
        most, pairs = 0, 0.0
        if replica.prompts:
            paced = self.clock.prompt_budget(decoding, replica.contexts, limits.step_seconds)
            each = max(16, min(limits.max_step_tokens, paced))
            sharing = min(self.clock.groups, len(replica.prompts))
            shares = _share(replica.prompts, each * sharing, each)
            seen = [count * (one[1] + count / 2) for one, count in shares]
            prompt = sum(count for _, count in shares)
            most = max(-(-prompt // sharing), *(count for _, count in shares))
            pairs = max(sum(seen) / sharing, *seen)
        seconds = self.clock.seconds(decoding, replica.contexts, prompt, most, pairs)
        if now <= self.at[-1]:
            replica.busy += min(seconds, self.at[-1] - now)
        heapq.heappush(self.ending, (now + seconds, number, lambda end: self._end(number, shares, end)))

    def _end(self, number: int, shares: list[tuple[list[int], int]], now: float) -> None:
        replica = self.replicas[number]
        replica.steps += 1
        replica.contexts += len(replica.ends)
        while replica.ends and replica.ends[0][0] <= replica.steps:
            self._finish(replica, heapq.heappop(replica.ends)[1], now)
        for one, count in shares:
            one[1] += count
            one[2] -= count
            if one[2] == 0:
                request = one[0]
                replica.prompts.remove(one)
                self.first[request] = now
                replica.contexts += self.prompt[request] + 1
                more = self.answer[request] - 1 if self.decode else 0
                if more > 0:
                    heapq.heappush(replica.ends, (replica.steps + more, request))
                else:
                    self._finish(replica, request, now)
        self._start(number, now)

    def _finish(self, replica: _Replica, request: int, now: float) -> None:
        self.last[request] = now
        said = self.answer[request] if self.decode else 0
        replica.held -= self.prompt[request] + said
        replica.contexts -= self.prompt[request] + max(1, said)


def _share(prompts: list[list[int]], budget: int, each: int) -> list[tuple[list[int], int]]:
    """Prompts and how many tokens each computes in a step of `budget`, `each` at most: see the module."""
    first, others = prompts[0], prompts[1:]
    wanted = sum(min(other[2], each) for other in others)
    taken = min(first[2], each, max(budget - wanted, -(-budget // 2)))
    shares, left = [(first, taken)], budget - taken
    for other in sorted(others, key=lambda one: one[2]):
        if left <= 0:
            break
        shares.append((other, min(other[2], each, left)))
        left -= shares[-1][1]
    return shares
