"""`troth plan train`: layouts, time, memory, failures and cost of a training run, before it is bought."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from troth.cli.options import AsJson, Changes, SystemName, print_json, read_system
from troth.cli.output import console, figures_table
from troth.cli.plan_output import Compare, Html, Prices, differences_table, write_page
from troth.cli.units import number_from
from troth.plan.gpus import gpu_named

if TYPE_CHECKING:
    from troth.plan.training import Candidate, TrainingPlan


def plan_train(
    gpus: Annotated[int, typer.Option(help="GPUs that there are; what no layout uses are hot spares.", min=1)],
    gpu: Annotated[str | None, typer.Option(help="A GPU, or a cloud's shape that has it (default: h100).")] = None,
    cloud: Annotated[
        str | None, typer.Option(help="There only: its GPU, network and prices.", metavar="PLACE:SHAPE")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Tokens to train on (default: train.steps batches).", metavar="NUMBER")
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option("--global-batch-tokens", help="Tokens of a batch (default: the system's).", metavar="NUMBER"),
    ] = None,
    precision: Annotated[str, typer.Option(help="bf16, float8, or auto: the system's, or the faster.")] = "auto",
    imbalance: Annotated[
        float | None, typer.Option(help="Tokens of the busiest experts over the mean (default: 1.1).", min=1, max=1000)
    ] = None,
    pod: Annotated[
        int | None,
        typer.Option(help="GPUs that reach each other at full bandwidth (default: --cloud's, or all).", min=1),
    ] = None,
    oversubscription: Annotated[
        float | None, typer.Option(help="By which bandwidth between pods is less (default: --cloud's or 1).", min=1)
    ] = None,
    failures: Annotated[str, typer.Option(help="Whose failure rate: llama3, rsc-1 or rsc-2.")] = "llama3",
    prices: Prices = None,
    simulations: Annotated[
        int,
        typer.Option(
            "--simulate", help="Simulate so many failures of each strategy beside the formulas.", min=0, max=1_000_000
        ),
    ] = 0,
    top: Annotated[int, typer.Option(help="Layouts to show.", min=1, max=50)] = 5,
    system: SystemName = "flagship",
    changes: Changes = None,
    html: Html = None,
    earlier: Compare = None,
    as_json: AsJson = False,
) -> None:
    """Plan a training run: the best layouts with where their time and memory go, days, failures, energy and cost.

    Sizes of parallelism that `--set parallel.tp=8` and the like give are kept; all others are searched.
    """
    from troth.plan.clouds import chosen, clouds
    from troth.plan.compare import compare, read_plan
    from troth.plan.failures import failure_rate
    from troth.plan.training import base_run, plan_training

    before = read_plan(earlier, "train") if earlier else None

    settings = read_system(system, changes)
    if precision != "auto":
        train = settings.train.model_copy(update={"precision": precision})
        settings = settings.model_copy(update={"train": train})
    size = round(number_from("--global-batch-tokens", batch)) if batch else settings.train.batch_tokens
    places = clouds(prices)
    if cloud:
        if gpu:
            raise ValueError(f"--gpu {gpu}: --cloud {cloud} says which GPU it has; leave one of them out")
        places, shape = chosen(cloud, places)
        gpu, pod = shape.gpu, pod or shape.pod
        oversubscription = oversubscription or shape.network.oversubscription
    base = base_run(settings, system, gpu_named(gpu or "h100"), gpus, size, imbalance, pod, oversubscription)
    whole = number_from("--tokens", tokens) if tokens else float(settings.train.steps) * size
    rate, fixed = failure_rate(failures), given(changes)
    plan = plan_training(settings, system, base, whole, places, rate, top, fixed, simulations=simulations)
    differences = compare(before, as_data(plan), "train") if before else []
    if as_json:
        print_json(as_data(plan))
    elif before:
        console.print(differences_table(differences, earlier))
    else:
        _show(plan)
    if html:
        from troth.plan.page.scaling import by_gpus, goodput_curves
        from troth.plan.page.training_page import training_page

        scaling = by_gpus(settings, base, plan, fixed)
        write_page(html, training_page(plan, scaling, goodput_curves(plan, rate), rate, differences, str(earlier)))


def given(changes: list[str] | None) -> dict[str, int]:
    """Sizes of parallelism that were set on the command line, by their names in a run.

    Raises ValueError naming one that follows from the others and cannot be kept.
    """
    from troth.plan.layouts import SIZES

    names = ("tp", "pp", "cp", "ep", "etp", "dp_replicate", "vpp")
    keys = {f"parallel.{SIZES.get(name, name)}": name for name in names}
    found = {}
    for change in changes or ():
        key, _, value = change.partition("=")
        if name := keys.get(key.strip()):
            found[name] = int(value)
        elif key.strip().startswith("parallel."):
            raise ValueError(f"--set {change}: a plan finds this size itself; it keeps {', '.join(keys)}")
    return found


def as_data(plan: TrainingPlan) -> dict[str, Any]:
    """All of a plan, for programs: dataclasses as objects, `[parallel]` tables as they are in a system file."""
    whole = asdict(plan) | {"spares": plan.spares}
    whole["candidates"] = [_candidate(one) for one in plan.candidates]
    return whole | {"fewer": plan.fewer and _candidate(plan.fewer)}


def _candidate(one: Candidate) -> dict[str, Any]:
    run = {name: value for name, value in asdict(one.run).items() if name not in ("dimensions", "gpu")}
    return asdict(one) | {"run": run, "table": one.table.model_dump()}


def _show(plan: TrainingPlan) -> None:
    from troth.plan.page.words import count_said, system_tables

    best, d = plan.best, plan.best.run.dimensions
    _say(
        f"{plan.system}: {count_said(d.parameters)} parameters, {count_said(d.active_parameters)} active; "
        f"{count_said(plan.tokens)} tokens in batches of {plan.batch_tokens:,} ({plan.length:,} a sequence)"
    )
    spare = f", {plan.spares:,} more are hot spares" if plan.spares else ""
    _say(f"{best.run.world:,} GPUs {plan.gpu.name.upper()} work{spare}; {plan.considered:,} layouts were looked at\n")
    console.print(_layouts(plan))
    shown = {name: seconds for name, seconds in best.parts.items() if seconds > 0}
    console.print(_shares("Where a step's time goes", "s", shown, best.seconds, best.hidden))
    memory = {name: size / 1e9 for name, size in best.memory.items()}
    console.print(_shares("Memory of a GPU", "GB", memory, plan.gpu.memory / 1e9))
    _say(f"a step     {best.seconds:.3g} s, {plan.seconds[0]:.3g} to {plan.seconds[1]:.3g} s; "
         f"{best.tokens_per_second:,.0f} tokens/s")  # fmt: skip
    if plan.extrapolated:
        _say("           no published run is larger than 16,384 GPUs: this is extrapolated")
    _show_batch(plan)
    _show_failures(plan)
    _say(f"\n{plan.duration.days:,.1f} days, {plan.duration.gpu_hours:,.0f} GPU-hours")
    console.print(_offers(plan))
    _say(f"\n{system_tables(plan)}")


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _show_batch(plan: TrainingPlan) -> None:
    few, c = plan.fewer or plan.best, plan.critical
    lost = 1 - plan.best.mfu / few.mfu
    _say(f"batch      {plan.best.mfu:.1%} of peak; on {few.run.world:,} GPUs it would be {few.mfu:.1%}: a batch "
         f"of this size costs {lost:.0%} of the larger machine")  # fmt: skip
    beyond = " (extrapolated)" if c.extrapolated else ""
    _say(f"           critical batch {c.low / 1e6:,.0f} to {c.high / 1e6:,.0f} million tokens{beyond}; the loss that "
         f"small batches reach takes {plan.batch_cost.extra_tokens:.0%} more tokens at this one")  # fmt: skip


def _show_failures(plan: TrainingPlan) -> None:
    from troth.plan.page.words import time_said

    for i, (name, found) in enumerate(plan.goodputs.items()):
        label = "failures" if i == 0 else ""
        mark = "*" if name == plan.strategy else " "
        also = ""
        if run := plan.simulated.get(name):
            also = f" (simulated {run.share:.1%}, give or take {run.error:.1%})"
        _say(f"{label:9}{mark} {name}: {found.share:.1%}{also} of the time is progress, {found.of_paid:.1%} of what is "
             f"paid; saved every {time_said(found.interval)}, a failure every {time_said(found.mtbf)}")  # fmt: skip
    _say(f"           silent corruption takes {plan.corruption:.1%} besides; slow machines, while they stay in, make a "
         f"step {plan.straggling - 1:.1%} longer")  # fmt: skip


def _layouts(plan: TrainingPlan) -> Table:
    table = Table("GPUs", "in", "pp", "dp", "cp", "tp", "ep", "batches", "again", "s a step", "of peak", "GB",
                  title="The fastest layouts")  # fmt: skip
    for column in table.columns:
        column.justify = "right"
    for one in plan.candidates:
        r = one.run
        table.add_row(
            f"{r.world:,}", r.precision, f"{r.pp}x{r.vpp}", f"{r.dp_replicate}x{r.dp // r.dp_replicate}",
            str(r.cp), str(r.tp), f"{r.ep}x{r.etp}" if r.etp > 1 else str(r.ep),
            f"{r.micro_batches:.0f}x{r.micro_batch}", f"{r.recompute:.0%}", f"{one.seconds:.3f}", f"{one.mfu:.1%}",
            f"{sum(one.memory.values()) / 1e9:.1f}",
        )  # fmt: skip
    return table


def _shares(
    title: str, unit: str, parts: dict[str, float], whole: float, hidden: dict[str, float] | None = None
) -> Table:
    table = figures_table("", unit, "share", title=title)
    if hidden is not None:
        table.add_column("hidden", justify="right")
    for name, value in parts.items():
        behind = [f"{hidden[name]:.3f}" if name in hidden else ""] if hidden is not None else []
        table.add_row(name, f"{value:.3f}", f"{value / whole:.1%}", *behind)
    return table


def _offers(plan: TrainingPlan) -> Table:
    table = Table("", "terms", "GPUs", "million USD", "USD a GPU-hour", "GWh", "price of", title="Cost")
    for column in table.columns[2:6]:
        column.justify = "right"
    for offer in plan.offers:
        price = ("-", "-")
        if offer.dollars is not None:
            price = (f"{offer.dollars / 1e6:,.1f}", f"{offer.dollars_per_gpu_hour:.2f}")
        where = f"{offer.cloud} {offer.shape}"
        if offer.networks and offer.networks > 1:
            where += f", {offer.networks} networks"
        table.add_row(where, offer.terms, f"{offer.gpus:,}", *price, f"{offer.energy / 1e3:,.2f}", offer.date)
    return table
