"""Requests as they come to a public service: days, bursts, conversations, long prompts. Every number can be replaced.

The forms are those that traces show: lognormal lengths with a heavy tail and a day that breathes (Azure 2023, in
Splitwise, 2311.18677, section 3), rates that are themselves random (BurstGPT, 2401.17644), prompts that begin as
earlier ones ended (Mooncake, 2407.00079, section 4). DeepSeek's service found 56% of its input tokens in the cache, at
5,000 tokens of context and 3.6 tokens in for each out; the defaults give 59%, 5,100 and 11.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Traffic:
    """What users do. Lengths in tokens, times in seconds.

    A user who is there asks `turns` questions in a conversation, on average, and `think` seconds pass between an answer
    and the next one. A question has a lognormal length (median, sigma of its logarithm); a `document_share` of them
    bring a document. Every prompt begins with the same `system_prompt`; what a conversation said before is still cached
    with probability `kept`, where the same replica is asked. `night` is the least load of a day over its most. Rates
    change by a factor of mean 1 and coefficient of variation `burst` every `burst_seconds`.
    """

    think: float = 60.0
    turns: float = 4.0
    system_prompt: int = 800
    question: int = 60
    question_sigma: float = 1.0
    document_share: float = 0.12
    document: int = 3000
    document_sigma: float = 0.9
    answer: int = 300
    answer_sigma: float = 0.8
    kept: float = 0.6
    night: float = 0.3
    burst: float = 0.1
    burst_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("think", "turns", "question", "document", "answer", "burst_seconds"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name}={getattr(self, name)}: must be above 0")
        if not 0 <= self.document_share <= 1:
            raise ValueError(f"document_share={self.document_share}: must lie between 0 and 1")


@dataclass(frozen=True)
class Requests:
    """Arrays, one entry a request in order of time `at`: tokens of the prompt, those that its conversation's replica
    has cached and those that any replica has, tokens of the answer, and a number for its conversation."""

    at: np.ndarray
    prompt: np.ndarray
    cached: np.ndarray
    shared: np.ndarray
    answer: np.ndarray
    conversation: np.ndarray

    @property
    def new(self) -> np.ndarray:
        """Tokens that must be computed before the answer, in the conversation's replica."""
        return self.prompt - self.cached

    @property
    def hit_share(self) -> float:
        """Of all tokens of prompts, those cached."""
        return float(self.cached.sum() / self.prompt.sum())


def by_hour(traffic: Traffic, hour: float | np.ndarray) -> np.ndarray:
    """Load over the day's most at a local hour: most at three in the afternoon, least at three at night."""
    return traffic.night + (1 - traffic.night) * (1 + np.cos((np.asarray(hour) - 15) * np.pi / 12)) / 2


def bursts(traffic: Traffic, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Factors of the rate, one for each `burst_seconds`: a gamma law makes arrivals doubly stochastic."""
    count = max(1, round(seconds / traffic.burst_seconds))
    if traffic.burst == 0:
        return np.ones(count)
    shape = traffic.burst**-2
    return rng.gamma(shape, 1 / shape, count)


def sample(traffic: Traffic, count: int, longest: int, rng: np.random.Generator) -> Requests:
    """`count` requests, all at time 0, of conversations that are cut off before `longest` tokens of prompt and
    answer. Raises ValueError where nothing fits in.
    """
    if longest < 16:
        raise ValueError(f"a model of {longest} positions has no room for a prompt and an answer")
    turns = rng.geometric(1 / traffic.turns, count)
    turns = turns[: np.searchsorted(np.cumsum(turns), count) + 1]
    starts = np.cumsum(turns) - turns
    conversation = np.repeat(np.arange(len(turns)), turns)[:count]
    first = np.isin(np.arange(count), starts)
    document = rng.random(count) < traffic.document_share
    question = np.where(
        document,
        rng.lognormal(np.log(traffic.document), traffic.document_sigma, count),
        rng.lognormal(np.log(traffic.question), traffic.question_sigma, count),
    )
    system = min(traffic.system_prompt, longest // 2)
    room = longest - system
    question = np.clip(question, 1, room * 3 // 4).astype(int)
    answer = np.clip(rng.lognormal(np.log(traffic.answer), traffic.answer_sigma, count), 1, room // 4).astype(int)
    said = question + answer
    before = np.cumsum(said) - said
    history = before - before[np.repeat(starts, turns)[:count]]
    # A conversation that has no room left goes on with its latest question only.
    history = np.where(first | (history + said > room), 0, history)
    warm = rng.random(count) < traffic.kept
    shared = np.full(count, system)
    prompt = shared + history + question
    return Requests(np.zeros(count), prompt, shared + np.where(warm, history, 0), shared, answer, conversation)


def arrivals(traffic: Traffic, rate: float, seconds: float, longest: int, rng: np.random.Generator) -> Requests:
    """Requests at `rate` a second on average over some seconds, with bursts, in the order in which they come."""
    factors = bursts(traffic, seconds, rng)
    edges = np.linspace(0, seconds, len(factors) + 1)
    counts = rng.poisson(rate * factors * np.diff(edges))
    if counts.sum() == 0:
        counts[0] = 1
    at = np.sort(np.concatenate([rng.uniform(a, b, n) for a, b, n in zip(edges, edges[1:], counts, strict=False)]))
    drawn = sample(traffic, len(at), longest, rng)
    # Turns of a conversation are minutes apart: within the trace they are as good as strangers, but for their replica.
    order = rng.permutation(len(at))
    return Requests(
        at, drawn.prompt[order], drawn.cached[order], drawn.shared[order], drawn.answer[order],
        drawn.conversation[order],
    )  # fmt: skip
