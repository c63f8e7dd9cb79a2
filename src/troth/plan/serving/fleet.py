"""The fleet for so many users: replicas by roofline, queues by simulation, regions by their days and their failures.

A fleet of thousands of GPUs is too many steps to simulate: each region is represented by a small group of its replicas
under their share of the region's load at its peak, bursts included, and scaled up.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from troth.model.config import ModelConfig
from troth.model.counts import count_parameters
from troth.plan.gpus import Gpu
from troth.plan.serving.choose import choose
from troth.plan.serving.group import Group
from troth.plan.serving.reach import reachable, share_within
from troth.plan.serving.region import Hardware, RegionPlan, Site, plan_region
from troth.plan.serving.replica import Choice, Need, Targets, largest_replica, prefill_seconds, replicas
from troth.plan.serving.roofline import BITS, PRODUCTS, Roofline, Shape
from troth.plan.serving.traffic import Traffic, sample

LONGEST_TTFT = 60.0
"""Seconds beyond which no fleet is planned."""
MUCH = 0.75
"""Of the GPUs: less than this is worth half as long a wait again, where the wait that was asked for cannot be had."""
PROMPTS = (128, 1024, 4096, 32_768, 131_072)
"""Lengths of prompts whose first token is shown."""


@dataclass(frozen=True)
class Assumptions:
    """What else a fleet depends on. Seconds: `provision` until a new node reads weights, `trace` of each simulation,
    which has `requests` at most; `load_bandwidth` is bytes a second at which a node reads weights. `most_gpus` is the
    largest replica considered; `together` leaves out replicas for prefill alone."""

    load_bandwidth: float = 5e9
    provision: float = 60.0
    trace: float = 40.0
    requests: int = 2400
    most_gpus: int = 128
    together: bool = False
    seed: int = 0


@dataclass(frozen=True)
class FleetPlan:
    """The whole answer. Seconds throughout: `planned` are the targets that replicas are planned for, the network left
    out; `first_token` says how soon an idle replica answers a prompt with so many new tokens, likewise; `start` how
    long a new replica takes to start. `within` is the share of prompts short enough for the TTFT that was asked for."""

    gpu: str
    parameters: int
    weights: str
    cache: str
    targets: Targets
    planned: Targets
    choice: Choice
    first_token: dict[int, float]
    within: float
    hit_share: float
    mean_prompt: float
    mean_answer: float
    start: float
    regions: tuple[RegionPlan, ...]
    network: dict[str, dict[str, float]]
    warnings: tuple[str, ...]

    @property
    def gpus(self) -> int:
        """GPUs of all regions, each with as many replicas as it may have."""
        return sum(region.gpus for region in self.regions)

    @property
    def cost_per_hour(self) -> float:
        """Of all regions, on average over a day."""
        return sum(region.cost_per_hour for region in self.regions)


def plan_fleet(
    model: ModelConfig, gpu: Gpu, users: int, sites: list[Site], network: dict[str, dict[str, float]],
    targets: Targets, traffic: Traffic | None = None, weights: str = "float8", cache: str = "bf16",
    assumed: Assumptions | None = None,
) -> FleetPlan:  # fmt: skip
    """Plan for so many users who are there at once, each region's at its own busiest hour. `network` gives the seconds
    of a round trip from the users of a region to each region.

    Raises ValueError where there are no users, or the model fits no replica.
    """
    if users <= 0:
        raise ValueError(f"users={users}: must be above 0")
    traffic, assumed = traffic or Traffic(), assumed or Assumptions()
    rng = np.random.default_rng(assumed.seed)
    pool = sample(traffic, 20_000, model.max_position_embeddings, rng)
    if weights in PRODUCTS and PRODUCTS[weights] not in gpu.peaks:
        fitting = ", ".join(kind for kind, products in PRODUCTS.items() if products in gpu.peaks)
        raise ValueError(f"--weights {weights}: {gpu.name} has no such products; it may be {fitting}")
    found = list(replicas(model, gpu, weights, cache, assumed.most_gpus))
    if not found:
        raise ValueError(_fits_nowhere(model, gpu, weights, assumed.most_gpus))
    need = Need.of(pool, targets.percentile)
    farthest = max(network[site.name][site.name] for site in sites)
    planned, warnings = reachable(found, need, targets, farthest)
    longest = model.max_position_embeddings
    rate = users / len(sites) / (traffic.think + planned.ttft + need.answer * planned.tpot)

    def chosen(targets: Targets) -> Choice:
        return choose(found, need, targets, traffic, rate, longest, assumed.together, assumed.seed)

    planned, choice, said = _relaxing(chosen, planned, farthest, rate)
    saved = 1 - chosen(replace(planned, ttft=2 * planned.ttft)).gpus(rate) / choice.gpus(rate)
    if saved >= 1 - MUCH:
        said.append(f"twice the time to the first token would save {saved:.0%} of the GPUs")
    warnings += said
    decode = Roofline(model, choice.decode)
    first = Roofline(model, choice.prefill or choice.decode)
    group = Group(choice, first, decode, need, planned, traffic, longest, assumed.requests)
    bytes_of_node = decode.weight_bytes_per_gpu * min(decode.shape.gpus, gpu.domain)
    start = assumed.provision + bytes_of_node / assumed.load_bandwidth
    hardware = Hardware(group, choice.rate, targets, start, assumed.trace)
    regions = [plan_region(site, sites, users, network, hardware, rng) for site in sites]
    if len(sites) == 1:
        warnings.append("one region: where it fails, nobody is served; a second one would take over")
    if choice.prefill or choice.decode.gpus > 1:
        warnings.append(
            f"`troth serve --replicas` gives a replica one GPU and one kind of replica: this plan's, of "
            f"{choice.decode.gpus} GPUs{' with prefill apart' if choice.prefill else ''}, need an engine with expert "
            "parallelism over GPUs behind the same address"
        )
    return FleetPlan(
        gpu=gpu.name, parameters=count_parameters(model).total, weights=weights, cache=cache, targets=targets,
        planned=planned, choice=choice,
        first_token={
            new: prefill_seconds(first, new, need.prompt - need.new + new / 2)
            for new in PROMPTS if new <= model.max_position_embeddings
        },
        within=share_within(first, pool, targets.ttft - farthest), hit_share=pool.hit_share, mean_prompt=need.prompt,
        mean_answer=need.answer, start=start, regions=tuple(regions), network=network,
        warnings=tuple(warnings),
    )  # fmt: skip


def _relaxing(
    chosen: Callable[[Targets], Choice], planned: Targets, network: float, rate: float
) -> tuple[Targets, Choice, list[str]]:
    """The replica for the targets. Where none meets them under load, the time to the first token gives way, by half
    each time, until one does and more would not save much, and a line says so."""
    try:
        return planned, chosen(planned), []
    except ValueError:
        targets = replace(planned, ttft=planned.ttft * 1.5)
    choice = None
    while targets.ttft < LONGEST_TTFT or not choice:
        try:
            slower = chosen(targets)
            if choice and slower.gpus(rate) > MUCH * choice.gpus(rate):
                break
            choice, met = slower, targets
        except ValueError:
            if targets.ttft >= LONGEST_TTFT:
                raise
        targets = replace(targets, ttft=targets.ttft * 1.5)
    said = (
        f"a first token within {(planned.ttft + network) * 1e3:,.0f} ms can be had of an idle replica, but of none "
        f"under load; planned for {(met.ttft + network) * 1e3:,.0f} ms"
    )
    return met, choice, [said]


def _fits_nowhere(model: ModelConfig, gpu: Gpu, weights: str, most: int) -> str:
    gigabytes = Roofline(model, Shape(gpu, 1, 1, weights)).weight_bytes / 1e9
    fewer = ", ".join(kind for kind, bits in BITS.items() if bits < BITS[weights] and PRODUCTS[kind] in gpu.peaks)
    largest = largest_replica(model, gpu)
    return (
        f"the weights take {gigabytes:,.0f} GB in {weights}, and no replica of up to {min(most, largest)} {gpu.name} "
        f"with {gpu.memory / 1e9:.0f} GB each holds them and a sequence; try "
        + ("larger replicas or GPUs" if most < largest else "GPUs with more memory, as none has more GPUs than experts")
        + (f", or weights in {fewer}" if fewer else "")
    )
