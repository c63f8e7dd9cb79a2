"""A plan of a fleet as one page: what `troth plan serve` prints, with pictures of waits, loads and costs."""

from dataclasses import fields

import numpy as np

from troth.plan.compare import Difference
from troth.plan.page.render import render
from troth.plan.page.svg import Part, Series, axis, bars, lines
from troth.plan.page.words import Table, count_said, short_count, time_said
from troth.plan.serving.fleet import FleetPlan
from troth.plan.serving.region import HOURS, RegionPlan, Site
from troth.plan.serving.roofline import FITTED
from troth.plan.serving.traffic import Traffic, by_hour

ROLES = ("products", "traffic", "kernels", "ends", "other", "idle")
"""Colours of regions, in turn."""


def fleet_page(system: str, plan: FleetPlan, sites: list[Site], traffic: Traffic, differences: list[Difference],
               earlier: str) -> str:  # fmt: skip
    """The HTML of a plan for these regions and this traffic; differences: from the plan in the file `earlier`."""
    return render(
        "fleet.html", system=system, plan=plan, users=sum(region.users for region in plan.regions), facts=_facts(plan),
        replica=_replica(plan), first=_first_token(plan), waits=_waits(plan), wait_bars=_wait_bars(plan),
        load=_load(plan, sites, traffic), load_legend=[(_role(i), r.name) for i, r in enumerate(plan.regions)],
        days=_days(plan), costs=_costs(plan), cost_bars=_cost_bars(plan), failover=_failover(plan),
        latency=_latency(plan), assumed=_assumed(traffic), constants=_constants(), count=count_said,
        time_said=time_said, differences=differences, earlier=earlier,
    )  # fmt: skip


def _role(index: int) -> str:
    return ROLES[index % len(ROLES)]


def _facts(plan: FleetPlan) -> list[tuple[str, str, str]]:
    worst = max(plan.regions, key=lambda region: region.percentiles.ttft[0] + region.network)
    median = worst.percentiles.ttft[0] + worst.network
    least = min(region.percentiles.within for region in plan.regions)
    peak = sum(region.gpus_at_peak for region in plan.regions)
    return [
        ("GPUs at most", f"{plan.gpus:,}", f"{peak:,} at the peak, {plan.gpu.upper()}"),
        ("USD an hour", f"{plan.cost_per_hour:,.0f}", "on average over a day"),
        ("first token", time_said(median), f"median in {worst.name}, network included"),
        ("each further token", time_said(worst.percentiles.tpot[0]), f"median in {worst.name}"),
        ("within both targets", f"{least:.1%}", "of requests, in the worst region"),
        ("a new replica", time_said(plan.start), "from asked for to answering"),
    ]


def _replica(plan: FleetPlan) -> Table:
    choice = plan.choice
    both = "decode" if choice.prefill else "prefill and decode"
    rows = [[both, str(choice.decode.gpus), str(choice.decode.tp), f"{choice.batch:,}", f"{choice.rate:,.1f}"]]
    if choice.prefill:
        rows.append(["prefill", str(choice.prefill.gpus), str(choice.prefill.tp), "", f"{choice.prefill_rate:,.1f}"])
    return Table(["replica for", "GPUs", "tp", "sequences at once", "requests a second"], rows, "Replicas")


def _first_token(plan: FleetPlan) -> Table:
    rows = [[f"{tokens:,}", time_said(seconds)] for tokens, seconds in plan.first_token.items()]
    return Table(["new tokens of the prompt", "first token"], rows, "An idle replica, without the network")


def _waits(plan: FleetPlan) -> Table:
    rows = []
    for region in plan.regions:
        said = [time_said(seconds + region.network) for seconds in region.percentiles.ttft]
        said += [time_said(seconds) for seconds in region.percentiles.tpot]
        rows.append([region.name, time_said(region.network), *said, f"{region.percentiles.within:.1%}"])
    head = ["region", "network", "TTFT p50", "p90", "p99", "TPOT p50", "p90", "p99", "within both targets"]
    return Table(head, rows, "Waits at a region's busiest hour; TTFT with the network")


def _wait_bars(plan: FleetPlan) -> str:
    parts = [
        Part(f"{region.name} {name}", seconds + region.network, _role(i), time_said(seconds + region.network))
        for i, region in enumerate(plan.regions)
        for name, seconds in zip(("p50", "p90", "p99"), region.percentiles.ttft, strict=True)
    ]  # fmt: skip
    return bars(parts, time_said, "Time to the first token at percentiles, by region; the table has the numbers")


def _load(plan: FleetPlan, sites: list[Site], traffic: Traffic) -> str:
    offsets = {site.name: site.utc_offset for site in sites}
    hours = [float(hour) for hour in HOURS[::2]] + [24.0]
    series = []
    for i, region in enumerate(plan.regions):
        rates = [float(r) for r in region.peak_rate * by_hour(traffic, np.array(hours) + offsets[region.name])]
        marks = [f"{region.name}, {hour:04.1f} h UTC: {rate:,.0f} requests a second"
                 for hour, rate in zip(hours, rates, strict=True)]  # fmt: skip
        series.append(Series(region.name, _role(i), hours, rates, marks))
    x = axis("hour of the day, UTC", [24 / 1.06], lambda hour: f"{hour:g}")
    most = max(region.peak_rate for region in plan.regions)
    return lines(series, x, axis("requests a second", [most], short_count), "Requests a second over a day, by region")


def _days(plan: FleetPlan) -> Table:
    rows = [
        [r.name, f"{r.users:,}", f"{r.peak_rate:,.0f}", f"{r.least:,}", f"{r.at_peak:,}", f"{r.most:,}",
         f"{r.prefills:,}", f"{r.gpus_at_peak:,}", f"{r.gpus:,}", f"{r.day.mean:,.0f}", f"{r.day.late_share:.2%}",
         time_said(r.day.longest_wait)]
        for r in plan.regions
    ]  # fmt: skip
    head = ["region", "users", "requests a second at the peak", "replicas at least", "at the peak", "at most",
            "prefill replicas", "GPUs at the peak", "GPUs at most", "replicas, mean of a day",
            "late since replicas start", "longest wait for it"]  # fmt: skip
    return Table(head, rows, "What each region has")


def _costs(plan: FleetPlan) -> Table:
    rows = [[r.name, f"{r.cost_per_hour:,.0f}", f"{r.cost_per_million:,.2f}"] for r in plan.regions]
    rows.append(["all", f"{plan.cost_per_hour:,.0f}", ""])
    return Table(["region", "USD an hour", "USD a million tokens out"], rows, "Cost, on average over a day")


def _cost_bars(plan: FleetPlan) -> str:
    parts = [Part(r.name, r.cost_per_hour, _role(i), f"{r.cost_per_hour:,.0f} USD an hour")
             for i, r in enumerate(plan.regions)]  # fmt: skip
    return bars(parts, lambda dollars: f"${short_count(dollars)} an hour", "Cost an hour by region")


def _failover(plan: FleetPlan) -> Table | None:
    rows = [_lost(region) for region in plan.regions if region.failover]
    head = ["lost", "users go to", "requests a second there, before", "after", "network longer by", "caught up after",
            "longest wait", "spare replicas for no wait"]  # fmt: skip
    return Table(head, rows, "A region is lost at the worst hour") if rows else None


def _lost(region: RegionPlan) -> list[str]:
    lost = region.failover
    assert lost is not None
    times = [time_said(seconds) if np.isfinite(seconds) else "never"
             for seconds in (lost.added_network, lost.recovery, lost.longest_wait)]  # fmt: skip
    return [region.name, lost.to, f"{lost.before:,.0f}", f"{lost.after:,.0f}", *times, f"{lost.warm_spares:,}"]


def _latency(plan: FleetPlan) -> Table:
    rows = [[near, *(time_said(seconds) for seconds in row.values())] for near, row in plan.network.items()]
    return Table(["users near", *(f"to {name}" for name in plan.network)], rows, "Round trips of the network")


def _assumed(traffic: Traffic) -> Table:
    rows = [[one.name.replace("_", " "), f"{getattr(traffic, one.name):g}"] for one in fields(traffic)]
    return Table(["traffic", "value"], rows, "What users do: lengths in tokens, times in seconds")


def _constants() -> Table:
    rows = [[one.name.replace("_", " "), f"{getattr(FITTED, one.name):.3g}"] for one in fields(FITTED)]
    return Table(["constant", "value"], rows, "What hardware falls short of: shares; latencies in seconds")
