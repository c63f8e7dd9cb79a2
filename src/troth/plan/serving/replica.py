"""Which replica serves most requests a second for each GPU and still meets its targets: shape, batch, and whether
prefill and decode are apart (DistServe, 2401.09670; Splitwise, 2311.18677). Queues by Kingman's formula; `queueing`
then simulates what is chosen."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np

from troth.model.config import ModelConfig
from troth.plan.gpus import Gpu
from troth.plan.serving.memory import most_at_once, most_sequences
from troth.plan.serving.roofline import Roofline, Shape
from troth.plan.serving.traffic import Requests

BUSIEST = 0.85
"""Share of its capacity that no replica is planned beyond: bursts need the rest."""


@dataclass(frozen=True)
class Targets:
    """Seconds to the first token, and on average to each further one, for a share `percentile` of requests."""

    ttft: float
    tpot: float
    percentile: float = 0.9

    def __post_init__(self) -> None:
        for name in ("ttft", "tpot"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be above 0 seconds")
        if not 0 < self.percentile < 1:
            raise ValueError(f"percentile={self.percentile}: must lie between 0 and 1")


@dataclass(frozen=True)
class Need:
    """What requests ask of a replica, in tokens: means of new ones of a prompt, of the whole prompt and of the answer;
    how many a new token and a token of the answer see; new ones at the targets' percentile, and how many those see; and
    the squared coefficient of variation of new ones."""

    new: float
    prompt: float
    answer: float
    seen: float
    context: float
    late: float
    late_seen: float
    variation: float

    @classmethod
    def of(cls, requests: Requests, percentile: float) -> "Need":
        new, answer = requests.new, requests.answer
        late = float(np.quantile(new, percentile))
        return cls(
            new=float(new.mean()),
            prompt=float(requests.prompt.mean()),
            answer=float(answer.mean()),
            seen=float((new * (requests.cached + new / 2)).sum() / new.sum()),
            context=float(((requests.prompt + answer / 2) * answer).sum() / answer.sum()),
            late=late,
            late_seen=float(requests.cached.mean() + late / 2),
            variation=float(new.var() / new.mean() ** 2),
        )


@dataclass(frozen=True)
class Choice:
    """A way to serve. `rate` is of requests a second that one decode replica (or one that does both) takes, with
    `batch` sequences at work; `prefill_rate` that of one prefill replica. Seconds: `ttft` at the percentile and `tpot`
    as planned, without the network; `transfer` of a prompt's keys and values between the two kinds."""

    decode: Shape
    batch: int
    rate: float
    ttft: float
    tpot: float
    prefill: Shape | None = None
    prefill_rate: float = 0.0
    transfer: float = 0.0

    def gpus(self, rate: float) -> int:
        """GPUs for so many requests a second, in whole replicas."""
        apart = self.prefill.gpus * ceil(rate / self.prefill_rate) if self.prefill else 0
        return self.decode.gpus * ceil(rate / self.rate) + apart


def replicas(model: ModelConfig, gpu: Gpu, weights: str, cache: str, most: int) -> Iterator[Roofline]:
    """Those of up to `most` GPUs that hold the network: powers of two, groups within a domain. Without experts a
    second group would be a second replica."""
    gpus, parts = 1, _parts(model)
    while gpus <= most:
        tp = 1
        while tp <= min(gpus, gpu.domain, model.num_attention_heads):
            one = Roofline(model, Shape(gpu, gpus, tp, weights, cache))
            if (gpus <= parts or tp == gpus) and most_sequences(one, 1024) >= 1:
                yield one
            tp *= 2
        gpus *= 2


def largest_replica(model: ModelConfig, gpu: Gpu) -> int:
    """GPUs of the largest that `replicas` considers, however many it may have."""
    most = max(_parts(model), min(gpu.domain, model.num_attention_heads))
    return int(2 ** int(np.log2(most)))


def _parts(model: ModelConfig) -> int:
    """GPUs over which experts can be spread; 0 where there are none."""
    return model.num_experts if model.num_dense_layers < model.num_hidden_layers else 0


def together(rooflines: list[Roofline], need: Need, targets: Targets, rate: float) -> Choice | None:
    """The replica that does both with fewest GPUs for `rate` requests a second, if any meets the targets."""
    found = [choice for one in rooflines if (choice := _together(one, need, targets))]
    return min(found, key=lambda choice: (choice.gpus(rate), -choice.rate)) if found else None


def decoding(rooflines: list[Roofline], need: Need, targets: Targets, rate: float) -> Choice | None:
    """The same for decoding alone; its TTFT is open."""
    found = [choice for one in rooflines if (choice := _decode(one, need, targets))]
    return min(found, key=lambda choice: (choice.gpus(rate), -choice.rate)) if found else None


def prefilling(rooflines: list[Roofline], need: Need, targets: Targets, rate: float) -> list[tuple[Roofline, float]]:
    """Replicas for prefill alone with the requests a second that each takes, fewest GPUs for `rate` first."""
    found = [(one, taken) for one in rooflines if (taken := _prefill(one, need, targets))]
    return sorted(found, key=lambda pair: pair[0].shape.gpus * ceil(rate / pair[1]))


def transfer_seconds(prefill: Roofline, decode: Roofline, prompt: float) -> float:
    """Seconds in which the GPUs of a group send a prompt's keys and values over the network, each its share."""
    ways = min(prefill.shape.tp, decode.shape.tp, prefill.model.cache_shape[0])
    sent = prefill.cache_bytes(prompt) * min(prefill.shape.tp, prefill.model.cache_shape[0]) / ways
    return sent / (prefill.shape.gpu.network * prefill.efficiency.network)


def prefill_seconds(one: Roofline, new: float, seen: float) -> float:
    """Seconds in which an idle replica computes a prompt of `new` tokens that see `seen` others on average."""
    return float(one.step(0, 0, new, seen, prompts=1).seconds)


def _batches(one: Roofline, need: Need) -> np.ndarray:
    return np.unique(np.geomspace(1, most_at_once(one, need.context), 64).round())


def _waiting(used: np.ndarray, service: np.ndarray | float, variation: float) -> np.ndarray:
    """Kingman's mean wait at Poisson arrivals."""
    return used / np.maximum(1 - used, 1e-9) * (1 + variation) / 2 * service


def _together(one: Roofline, need: Need, targets: Targets) -> Choice | None:
    """One kind of replica: each step decodes and computes as many prompt tokens as the target of TPOT leaves time."""
    batch = _batches(one, need)
    alone = one.step(batch, need.context).seconds
    tried = 1024.0 * one.shape.groups
    per_token = (one.step(batch, need.context, tried, need.seen).seconds - alone) / tried
    room = (targets.tpot - alone) / per_token
    asked = batch * need.new / need.answer
    used = asked / np.maximum(room, 1e-9)
    # A group computes its own prompts: one prompt gets a group's share of the room.
    each = np.maximum(room, 1e-9) / one.shape.groups
    wait = _waiting(used, need.new / each * targets.tpot, need.variation) / one.shape.groups
    ttft = np.maximum(need.late / each, 1) * targets.tpot + wait + targets.tpot / 2
    fits = (room > 0) & (used <= BUSIEST) & (ttft <= targets.ttft)
    if not fits.any():
        return None
    seconds = one.step(batch, need.context, asked, need.seen).seconds
    rate = np.where(fits, batch / (need.answer * seconds), 0.0)
    best = int(np.argmax(rate))
    return Choice(one.shape, int(batch[best]), float(rate[best]) * BUSIEST, float(ttft[best]), float(seconds[best]))


def _prefill(one: Roofline, need: Need, targets: Targets) -> float:
    """Requests a second of a prefill replica; 0 where it misses the target even when idle."""
    late = prefill_seconds(one, need.late, need.late_seen)
    groups = float(one.shape.groups)
    seconds = float(one.step(0, 0, groups * need.new, need.seen, prompts=groups).seconds)
    used = np.linspace(BUSIEST, 0.05, 33)
    fits = late + _waiting(used, seconds / groups, need.variation) + used * seconds / 2 <= targets.ttft
    return float(used[np.argmax(fits)]) * groups / seconds if fits.any() else 0.0


def _decode(one: Roofline, need: Need, targets: Targets) -> Choice | None:
    """As large a batch as memory and TPOT allow."""
    batch = _batches(one, need)
    seconds = one.step(batch, need.context).seconds
    fits = seconds <= targets.tpot
    if not fits.any():
        return None
    rate = np.where(fits, batch / (need.answer * seconds), 0.0)
    best = int(np.argmax(rate))
    return Choice(one.shape, int(batch[best]), float(rate[best]) * BUSIEST, targets.ttft, float(seconds[best]))
