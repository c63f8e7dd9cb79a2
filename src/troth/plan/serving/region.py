"""A region's part of the fleet: replicas at its peak and over its day, its users' waits, its cost, and its failure."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from troth.plan.serving.autoscale import DAY, TICK, Day, Scaling, follow, takeover
from troth.plan.serving.group import Group, Percentiles
from troth.plan.serving.replica import BUSIEST, Targets
from troth.plan.serving.traffic import bursts, by_hour

HOURS = np.arange(0, 24, 0.25)
LOOK_BACK, UP, DOWN = 60.0, 5.0, 600.0
"""Seconds of autoscaling: see `Scaling`."""
LATE = 0.01
"""Share of requests that may come while replicas are beyond their limit, since new ones take time to start."""


@dataclass(frozen=True)
class Site:
    """A region: its share of all users, hours that its users' clocks are ahead of UTC, and the price of a GPU-hour."""

    name: str
    share: float
    utc_offset: float
    price: float


@dataclass(frozen=True)
class Hardware:
    """What regions have in common: the replicas, requests a second that each decode replica is planned for, the targets
    that users were promised, seconds until a new replica answers, and seconds of each simulation."""

    group: Group
    rate: float
    targets: Targets
    start: float
    trace: float

    def gpus(self, replicas: float, full: float) -> float:
        """GPUs of so many decode replicas and the prefill replicas that they need."""
        return replicas * self.group.choice.decode.gpus + self.prefills(replicas, full) * self._prefill_gpus

    def prefills(self, replicas: float, full: float) -> int:
        """Prefill replicas beside so many decode replicas, which are `full`, a share of what they are planned for, at
        the region's busiest: where few ask, one may be far from it. 0 where these do both."""
        choice = self.group.choice
        return ceil(replicas * full * choice.rate / choice.prefill_rate - 1e-9) if choice.prefill else 0

    @property
    def _prefill_gpus(self) -> int:
        prefill = self.group.choice.prefill
        return prefill.gpus if prefill else 0


@dataclass(frozen=True)
class Failover:
    """The region is lost at the worst hour and its users go to `to`. Requests a second there before and after; seconds
    that their network is longer, until enough replicas are ready, and of the longest wait in a queue until then; and
    replicas that would have to be warm there for nobody to wait."""

    to: str
    before: float
    after: float
    added_network: float
    recovery: float
    longest_wait: float
    warm_spares: int


@dataclass(frozen=True)
class RegionPlan:
    """What a region takes. `least`, `at_peak` and `most` count decode replicas (or those that do both), `prefills`
    those for prefill beside `most`, `gpus` all GPUs of these. `network` is the seconds of a round trip from its users,
    percentiles leave it out. Costs are in the currency of the price, over a day's average replicas."""

    name: str
    users: int
    peak_rate: float
    network: float
    least: int
    at_peak: int
    most: int
    prefills: int
    gpus_at_peak: int
    gpus: int
    percentiles: Percentiles
    day: Day
    cost_per_hour: float
    cost_per_million: float
    failover: Failover | None
    autoscaling: str


def plan_region(
    site: Site, sites: list[Site], users: int, network: dict[str, dict[str, float]], hardware: Hardware,
    rng: np.random.Generator,
) -> RegionPlan:  # fmt: skip
    """Plan one of the sites; the others send it their users where they fail and it is the nearest to them."""
    traffic = hardware.group.traffic
    peak = _peak(site, users, hardware)
    load = peak * by_hour(traffic, HOURS + site.utc_offset)
    guests = [_peak(other, users, hardware) * by_hour(traffic, HOURS + other.utc_offset)
              for other in sites if other is not site and _nearest(other, sites, network) is site]  # fmt: skip
    busiest = max([float(load.max()) * (1 + 2 * traffic.burst), *(float((load + more).max()) for more in guests)])
    scaling, day = _follow(_day(site, peak, hardware, rng), float(load.min()), busiest, hardware)
    most, at_peak = scaling.most, ceil(load.max() / scaling.rate)
    full = busiest / (most * scaling.rate)
    percentiles = hardware.group.measure(
        peak / at_peak, network[site.name][site.name], hardware.targets, hardware.trace, rng, full
    )
    cost = hardware.gpus(day.mean, full) * site.price
    tokens_per_hour = float(load.mean()) * hardware.group.need.answer * 3600
    return RegionPlan(
        name=site.name, users=round(users * site.share), peak_rate=peak, network=network[site.name][site.name],
        least=scaling.least, at_peak=at_peak, most=most, prefills=hardware.prefills(most, full),
        gpus_at_peak=round(hardware.gpus(at_peak, full)), gpus=round(hardware.gpus(most, full)),
        percentiles=percentiles, day=day,
        cost_per_hour=cost, cost_per_million=cost / tokens_per_hour * 1e6,
        failover=_failover(site, sites, users, network, hardware), autoscaling=_table(scaling, hardware),
    )  # fmt: skip


def _peak(site: Site, users: int, hardware: Hardware) -> float:
    """Requests a second when all the site's users are there: each asks again `think` seconds after an answer."""
    group = hardware.group
    answering = group.targets.ttft + group.need.answer * group.targets.tpot
    return users * site.share / (group.traffic.think + answering)


def _nearest(site: Site, sites: list[Site], network: dict[str, dict[str, float]]) -> Site | None:
    others = [other for other in sites if other is not site]
    return min(others, key=lambda other: network[site.name][other.name]) if others else None


def _day(site: Site, peak: float, hardware: Hardware, rng: np.random.Generator) -> np.ndarray:
    """Requests a second in each tick of a day in UTC."""
    traffic = hardware.group.traffic
    at = np.arange(0, DAY, TICK)
    factors = bursts(traffic, DAY, rng)
    factor = factors[np.minimum((at / traffic.burst_seconds).astype(int), len(factors) - 1)]
    return peak * by_hour(traffic, at / 3600 + site.utc_offset) * factor


def _follow(load: np.ndarray, least: float, busiest: float, hardware: Hardware) -> tuple[Scaling, Day]:
    """Autoscaling over a day's load, and how it does: replicas are asked for as much earlier as it takes to be late for
    few requests."""
    for share in (1.0, 0.9, 0.8, 0.7, 0.6):
        rate = hardware.rate * share
        scaling = Scaling(
            max(1, ceil(least / rate)), ceil(busiest / rate), rate, hardware.rate / BUSIEST, LOOK_BACK, UP, DOWN,
            hardware.start,
        )  # fmt: skip
        day = follow(scaling, load)
        if day.late_share <= LATE:
            break
    return scaling, day


def _failover(
    site: Site, sites: list[Site], users: int, network: dict[str, dict[str, float]], hardware: Hardware
) -> Failover | None:
    to = _nearest(site, sites, network)
    if to is None:
        return None
    traffic, rate = hardware.group.traffic, hardware.rate
    theirs = _peak(to, users, hardware) * by_hour(traffic, HOURS + to.utc_offset)
    both = theirs + _peak(site, users, hardware) * by_hour(traffic, HOURS + site.utc_offset)
    worst = int(np.argmax(both))
    before, after = float(theirs[worst]), float(both[worst])
    scaling = Scaling(1, ceil(after / rate), rate, rate / BUSIEST, LOOK_BACK, UP, DOWN, hardware.start)
    recovery, wait = takeover(scaling, before, after)
    return Failover(
        to.name, before, after, network[site.name][to.name] - network[site.name][site.name], recovery, wait,
        max(0, ceil(after * BUSIEST / rate) - ceil(before / rate)),
    )  # fmt: skip


def _table(scaling: Scaling, hardware: Hardware) -> str:
    """The [serve.autoscaling] table of a system file, by Little's law for requests at work."""
    group = hardware.group
    at_work = max(1, round(scaling.rate * (group.targets.ttft + group.need.answer * group.targets.tpot)))
    return "\n".join([
        "[serve]",
        f"max_batch = {ceil(scaling.capacity / scaling.rate * at_work)}",
        "",
        "[serve.autoscaling]",
        f"min_replicas = {scaling.least}",
        f"max_replicas = {scaling.most}",
        f"target_requests = {at_work}",
        f"target_ttft = {group.targets.ttft:.3g}",
        f"look_back_seconds = {scaling.look_back:g}",
        f"upscale_delay_seconds = {scaling.up:g}",
        f"downscale_delay_seconds = {scaling.down:g}",
    ])  # fmt: skip
