"""`troth plan serve`: GPUs, waits and costs of a fleet for a number of users."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from troth.cli.options import AsJson, Changes, SystemName, print_json, read_system
from troth.cli.output import console, figures_table
from troth.cli.plan_output import Compare, Html, Prices, differences_table, write_page
from troth.cli.units import seconds_from
from troth.plan.gpus import gpu_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from troth.plan.serving.fleet import FleetPlan
    from troth.plan.serving.region import RegionPlan


def plan_serve(
    users: Annotated[int, typer.Option(help="Users who are there at once, each region's at its busiest hour.")],
    regions: Annotated[
        str, typer.Option(help="Regions, NAME or NAME:SHARE of the users.", metavar="NAME[:SHARE],...")
    ] = "eastus",
    gpu: Annotated[str, typer.Option(help="A GPU, or a cloud's shape that has it.")] = "h100",
    ttft: Annotated[str, typer.Option(help="Time to first token, the network included.", metavar="TIME")] = "500ms",
    tpot: Annotated[str, typer.Option(help="Time per further token.", metavar="TIME")] = "50ms",
    percentile: Annotated[float, typer.Option(help="Per cent of requests for which this holds.", min=1, max=99.9)] = 50,
    weights: Annotated[str, typer.Option(help="bf16, float8, int8, int4 or float4.")] = "float8",
    cache: Annotated[str, typer.Option(help="Keys and values: bf16 or float8.")] = "bf16",
    think: Annotated[float, typer.Option(help="Seconds between an answer and its user's next question.")] = 60.0,
    answer: Annotated[int, typer.Option(help="Median tokens of an answer.")] = 300,
    question: Annotated[int, typer.Option(help="Median tokens of a question.")] = 60,
    document_share: Annotated[float, typer.Option(help="Share of questions that bring a document.")] = 0.12,
    replica_gpus: Annotated[int, typer.Option(help="GPUs of a replica at most.", min=1)] = 128,
    together: Annotated[
        bool, typer.Option("--together", help="No replicas for prefill alone, as in Troth's engine.")
    ] = False,
    prices: Prices = None,
    trace: Annotated[float, typer.Option(help="Seconds of traffic that are simulated at most.", min=1)] = 40.0,
    requests: Annotated[int, typer.Option(help="Requests that are simulated at most.", min=100)] = 2400,
    seed: Annotated[int, typer.Option(help="Of the simulated traffic.", min=0)] = 0,
    system: SystemName = "flagship",
    changes: Changes = None,
    html: Html = None,
    earlier: Compare = None,
    as_json: AsJson = False,
) -> None:
    """Plan a fleet: replicas, waits at percentiles, autoscaling, failover and cost of each region."""
    from troth.plan.compare import compare, read_plan
    from troth.plan.serving.fleet import Assumptions, plan_fleet
    from troth.plan.serving.replica import Targets
    from troth.plan.serving.sites import sites_from
    from troth.plan.serving.traffic import Traffic

    before = read_plan(earlier, "serve") if earlier else None
    kind = gpu_named(gpu)
    sites, network = sites_from(regions, kind.name, prices)
    targets = Targets(seconds_from("--ttft", ttft), seconds_from("--tpot", tpot), percentile / 100)
    traffic = Traffic(think=think, answer=answer, question=question, document_share=document_share)
    assumed = Assumptions(most_gpus=replica_gpus, together=together, trace=trace, requests=requests, seed=seed)
    model = read_system(system, changes).model
    plan = plan_fleet(model, kind, users, sites, network, targets, traffic, weights, cache, assumed)
    data = asdict(plan) | {"gpus": plan.gpus, "cost_per_hour": plan.cost_per_hour}
    differences = compare(before, data, "serve") if before else []
    if as_json:
        print_json(data)
    elif before:
        console.print(differences_table(differences, earlier))
    else:
        _show(system, plan)
    if html:
        from troth.plan.page.fleet_page import fleet_page

        write_page(html, fleet_page(system, plan, sites, traffic, differences, str(earlier)))


def _show(system: str, plan: FleetPlan) -> None:
    from troth.plan.page.words import count_said

    choice, planned = plan.choice, plan.planned
    console.print(
        f"{system}: {count_said(plan.parameters)} parameters in {plan.weights}, cache in {plan.cache}, on "
        f"{plan.gpu.upper()}; {plan.mean_prompt:,.0f} tokens of prompt ({plan.hit_share:.0%} cached) and "
        f"{plan.mean_answer:,.0f} of answer on average", soft_wrap=True,
    )  # fmt: skip
    both = "decode" if choice.prefill else "prefill and decode"
    replica = f"{both}: {choice.decode.gpus} GPUs (tp {choice.decode.tp}), {choice.batch:,} sequences at once"
    if choice.prefill:
        replica += f"; prefill: {choice.prefill.gpus} GPUs (tp {choice.prefill.tp}), {choice.prefill_rate:,.1f} req/s; "
        replica += f"keys and values move in {_time(choice.transfer)}"
    console.print(f"a replica  {replica}; {choice.rate:,.1f} req/s; ready {plan.start:,.0f} s after it is asked for",
                  soft_wrap=True)  # fmt: skip
    console.print(
        f"planned    {_time(planned.ttft)} to the first token of {planned.percentile:.0%} of requests, without the "
        f"network; {_time(planned.tpot)} for each further one", soft_wrap=True,
    )  # fmt: skip
    first = ", ".join(f"{tokens:,}: {_time(seconds)}" for tokens, seconds in plan.first_token.items())
    console.print(f"first token of an idle replica by new tokens of the prompt  {first}", soft_wrap=True)
    console.print(
        f"within {_time(plan.targets.ttft)}, the network included, an idle replica has {plan.within:.0%} of first "
        "tokens\n", soft_wrap=True,
    )  # fmt: skip
    table = figures_table("", *(region.name for region in plan.regions), title="")
    for label, show in _rows(plan):
        table.add_row(label, *(show(region) for region in plan.regions))
    console.print(table)
    console.print(f"in all {plan.gpus:,} GPUs at most, {plan.cost_per_hour:,.0f} USD an hour on average\n")
    if len(plan.regions) > 1:
        console.print(_network(plan))
    for region in plan.regions:
        console.print(f"\n# {region.name}\n{region.autoscaling}", markup=False)
    for warning in plan.warnings:
        console.print(f"\nnote: {warning}", soft_wrap=True, markup=False)


def _rows(plan: FleetPlan) -> list[tuple[str, Callable[[RegionPlan], str]]]:
    target = f"within {_time(plan.targets.ttft)} and {_time(plan.targets.tpot)}"
    rows: list[tuple[str, Callable[[RegionPlan], str]]] = [
        ("users", lambda r: f"{r.users:,}"),
        ("requests a second at the peak", lambda r: f"{r.peak_rate:,.0f}"),
        ("replicas, least / at the peak / most", lambda r: f"{r.least:,} / {r.at_peak:,} / {r.most:,}"),
        ("GPUs at the peak / at most", lambda r: f"{r.gpus_at_peak:,} / {r.gpus:,}"),
        ("network, there and back", lambda r: _time(r.network)),
        ("TTFT with it, p50 / p90 / p99", lambda r: _three(tuple(t + r.network for t in r.percentiles.ttft))),
        ("TPOT, p50 / p90 / p99", lambda r: _three(r.percentiles.tpot)),
        (f"requests {target}", lambda r: f"{r.percentiles.within:.1%}"),
        ("replicas over a day, mean / most", lambda r: f"{r.day.mean:,.0f} / {r.day.most:,}"),
        ("late since replicas still start", lambda r: f"{r.day.late_share:.2%}, at most {_time(r.day.longest_wait)}"),
        ("USD an hour / a million tokens out", lambda r: f"{r.cost_per_hour:,.0f} / {r.cost_per_million:,.2f}"),
    ]
    if len(plan.regions) > 1:
        rows += [
            ("lost: users go to", lambda r: r.failover.to if r.failover else ""),
            ("  requests a second there", lambda r: f"{r.failover.before:,.0f} -> {r.failover.after:,.0f}"
             if r.failover else ""),
            ("  network longer by", lambda r: _time(r.failover.added_network) if r.failover else ""),
            ("  caught up after / longest wait", lambda r: f"{_time(r.failover.recovery)} / "
             f"{_time(r.failover.longest_wait)}" if r.failover else ""),
            ("  spare replicas for no wait", lambda r: f"{r.failover.warm_spares:,}" if r.failover else ""),
        ]  # fmt: skip
    return rows


def _network(plan: FleetPlan) -> Table:
    table = Table("round trip from users near", *(f"to {name}" for name in plan.network))
    for users, row in plan.network.items():
        table.add_row(users, *(_time(seconds) for seconds in row.values()))
    return table


def _three(seconds: tuple[float, ...]) -> str:
    return " / ".join(_time(value) for value in seconds)


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s" if seconds < 100 else f"{seconds:,.0f} s"
