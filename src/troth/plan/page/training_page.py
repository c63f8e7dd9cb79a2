"""A training plan as one page: what `troth plan train` prints, and pictures of its pipeline, scaling and failures."""

from dataclasses import fields
from typing import Any

import numpy as np

from troth.plan import recovery
from troth.plan.calibration import Calibration
from troth.plan.compare import Difference
from troth.plan.failures import FailureRate
from troth.plan.page.pipeline import pipeline
from troth.plan.page.render import render
from troth.plan.page.svg import Part, Series, axis, lines, stacked_bar
from troth.plan.page.words import Table, count_said, short_count, system_tables, time_said
from troth.plan.recovery import GoodputCurve
from troth.plan.training import DRIFT, KNOWN_GPUS, SPREAD, Candidate, TrainingPlan

ROLES = {
    "products": ("attention layers", "feed-forwards", "experts", "head", "attention"),
    "kernels": ("pointwise", "permuting", "kernel starts"),
    "traffic": ("tensor traffic", "expert traffic", "context traffic", "pipeline traffic", "data traffic"),
    "idle": ("expert imbalance", "bubble", "waiting"),
    "ends": ("optimizer", "beginning and end"),
}
"""Colours of a step's parts; others are `ends`."""

NAMES = {
    "products": "matrix products", "kernels": "pointwise work and starting kernels", "traffic": "traffic",
    "idle": "waiting for others", "ends": "optimizer, beginning and end",
}  # fmt: skip

MEMORY_ROLES = {
    "weights": "products", "gathered": "products", "gradients": "kernels", "optimizer": "ends",
    "activations": "traffic", "logits": "other", "buffers": "other", "context": "idle",
}  # fmt: skip
"""Kinds that belong together have one colour: weights that a rank has, and those it has gathered for a while."""

STRATEGY_ROLES = {"restart the world": "traffic", "hot spares": "ends", "replica groups": "products"}


def training_page(plan: TrainingPlan, scaling: list[Candidate], curves: dict[str, GoodputCurve], rate: FailureRate,
                  differences: list[Difference], earlier: str) -> str:  # fmt: skip
    """The HTML of a plan. scaling: the fastest layouts of its batch by GPUs; differences: from the plan in the file
    `earlier`, if any."""
    best = plan.best
    return render(
        "training.html", plan=plan, best=best, d=best.run.dimensions, facts=_facts(plan), layouts=_layouts(plan),
        time_bar=_time_bar(best), time_legend=[(role, NAMES[role]) for role in ROLES], time=_time(best),
        hidden=sum(best.hidden.values()), memory_bar=_memory_bar(plan), memory=_memory(plan),
        memory_legend=[(MEMORY_ROLES[kind], kind) for kind in best.memory],
        picture=_picture(best) if best.run.pp > 1 else None, scaling=_scaling(scaling), goodput=_goodput(curves),
        goodput_legend=[(STRATEGY_ROLES[name], name) for name in curves], failures=_failures(plan),
        components=_components(plan, rate), offers=_offers(plan), tables=system_tables(plan), constants=_constants(),
        sources=_sources(plan, rate), fewer=scaling[0] if len(scaling) > 1 else None,
        known=KNOWN_GPUS, spread=SPREAD, drift=DRIFT,
        count=count_said, differences=differences, earlier=earlier,
    )  # fmt: skip


def _facts(plan: TrainingPlan) -> list[tuple[str, str, str]]:
    """What, how much, and what is to be said of it."""
    low, high = (plan.duration.days * seconds / plan.best.seconds for seconds in plan.seconds)
    priced = [offer for offer in plan.offers if offer.dollars is not None]
    facts = [
        ("days", f"{plan.duration.days:,.1f}", f"{low:,.1f} to {high:,.1f}"),
        ("GPU-hours", short_count(plan.duration.gpu_hours), f"{plan.gpus:,} GPUs {plan.gpu.name.upper()}"),
        ("a step", f"{plan.best.seconds:.3g} s", f"{plan.seconds[0]:.3g} to {plan.seconds[1]:.3g} s"),
        ("tokens a second", short_count(plan.best.tokens_per_second), f"{plan.best.mfu:.1%} of the GPUs' peak"),
    ]
    if priced and priced[0].dollars is not None:
        said = f"{priced[0].cloud}, {priced[0].terms}"
        facts.append(("cost from", f"${short_count(priced[0].dollars)}", said))
    goodput = plan.goodputs[plan.strategy]
    facts.append(("goodput", f"{goodput.share:.1%}", f"of the time is progress, with {plan.strategy}"))
    return facts


def _layouts(plan: TrainingPlan) -> Table:
    rows = []
    for one in plan.candidates:
        r = one.run
        rows.append([
            f"{r.world:,}", r.precision, f"{r.pp} × {r.vpp}", f"{r.dp_replicate} × {r.dp // r.dp_replicate}",
            str(r.cp), str(r.tp), f"{r.ep} × {r.etp}" if r.etp > 1 else str(r.ep),
            f"{r.micro_batches:.0f} × {r.micro_batch}", f"{r.recompute:.0%}", f"{one.seconds:.3f}", f"{one.mfu:.1%}",
            f"{sum(one.memory.values()) / 1e9:.1f}",
        ])  # fmt: skip
    head = ["GPUs", "precision", "pp × stages", "dp: copies × shards", "cp", "tp", "ep", "micro-batches × sequences",
            "done again", "s a step", "of peak", "GB a GPU"]  # fmt: skip
    return Table(head, rows, "The fastest layouts", best=0)


def _role(part: str) -> str:
    return next((role for role, names in ROLES.items() if part in names), "ends")


def _time_bar(best: Candidate) -> tuple[str, str]:
    """The step by part, colours together; and the traffic behind it on the same scale."""
    order = list(ROLES)
    shown = sorted((item for item in best.parts.items() if item[1] > 0), key=lambda item: order.index(_role(item[0])))
    parts = [Part(name, s, _role(name), f"{s:.3f} s, {s / best.seconds:.1%}") for name, s in shown]
    hidden = [Part(f"{name}, hidden", s, "traffic", f"{s:.3f} s") for name, s in best.hidden.items() if s > 0]
    whole = max(best.seconds, sum(best.hidden.values()))
    return (stacked_bar(parts, whole, "Where a step's time goes, by part; the table has the numbers"),
            stacked_bar(hidden, whole, "Traffic that goes on behind the step, on the same scale"))  # fmt: skip


def _time(best: Candidate) -> Table:
    rows = [
        [name, f"{seconds:.3f}", f"{seconds / best.seconds:.1%}",
         f"{best.hidden[name]:.3f}" if best.hidden.get(name, 0) > 0 else ""]
        for name, seconds in best.parts.items() if seconds > 0
    ]  # fmt: skip
    return Table(["part", "s", "share", "hidden s"], rows, "A step's time by part",
                 roles=tuple(_role(row[0]) for row in rows))  # fmt: skip


def _memory_bar(plan: TrainingPlan) -> str:
    parts = [Part(kind, size, MEMORY_ROLES[kind], f"{size / 1e9:.1f} GB")
             for kind, size in plan.best.memory.items()]  # fmt: skip
    held = sum(plan.best.memory.values())
    label = f"Memory of a GPU by kind: {held / 1e9:.1f} of {plan.gpu.memory / 1e9:.0f} GB"
    return stacked_bar(parts, max(plan.gpu.memory, held), label)


def _memory(plan: TrainingPlan) -> Table:
    memory = plan.gpu.memory
    rows = [[kind, f"{size / 1e9:.2f}", f"{size / memory:.1%}"] for kind, size in plan.best.memory.items()]
    free = memory - sum(plan.best.memory.values())
    rows.append(["free", f"{free / 1e9:.2f}", f"{free / memory:.1%}"])
    roles = (*(MEMORY_ROLES[kind] for kind in plan.best.memory), "bubble")
    return Table(["kind", "GB", "of the GPU"], rows, "Memory of a GPU by kind", roles=roles)


def _picture(best: Candidate) -> Any:
    return pipeline(best.run.pp, best.run.vpp, round(best.run.micro_batches), 2 + best.run.recompute)


def _scaling(scaling: list[Candidate]) -> dict[str, Any]:
    gpus = [float(one.run.world) for one in scaling]
    x = axis("GPUs", gpus, short_count, log=True)

    def drawn(name: str, values: list[float], write: Any, log: bool, role: str) -> str:
        marks = [f"{g:,.0f} GPUs: {write(v)}" for g, v in zip(gpus, values, strict=True)]
        return lines([Series(name, role, gpus, values, marks)], x, axis(name, values, write, log), f"{name} by GPUs")

    rows = [[f"{one.run.world:,}", f"{one.seconds:.3f}", f"{one.tokens_per_second:,.0f}", f"{one.mfu:.1%}"]
            for one in scaling]  # fmt: skip
    charts = [
        drawn("seconds a step", [one.seconds for one in scaling], lambda v: f"{v:.3g} s", True, "products"),
        drawn("tokens a second", [one.tokens_per_second for one in scaling], short_count, True, "traffic"),
        drawn("share of peak", [one.mfu for one in scaling], lambda v: f"{v:.0%}", False, "kernels"),
    ]
    head = ["GPUs", "s a step", "tokens a second", "of peak"]
    table = Table(head, rows, "The same batch on fewer GPUs, fastest layout each")
    return {"charts": charts if len(scaling) > 1 else [], "table": table}


def _goodput(curves: dict[str, GoodputCurve]) -> str:
    series = []
    for name, curve in curves.items():
        there = np.isfinite(curve.of_paid)
        gpus, shares = curve.gpus[there].tolist(), curve.of_paid[there].tolist()
        marks = [f"{name}, {count:,.0f} GPUs: {share:.1%}" for count, share in zip(gpus, shares, strict=True)]
        series.append(Series(name, STRATEGY_ROLES[name], gpus, shares, marks))
    x = axis("GPUs", [float(count) for one in series for count in one.x], short_count, log=True)
    y = axis("progress, of what is paid", [0, 1 / 1.06], lambda v: f"{v:.0%}")
    return lines(series, x, y, f"Share of paid time that lasts as progress, by GPUs, for {', '.join(curves)}")


def _failures(plan: TrainingPlan) -> Table:
    rows = [
        [name, f"{found.share:.1%}", f"{found.of_paid:.1%}", time_said(found.interval), time_said(found.mtbf)]
        for name, found in plan.goodputs.items()
    ]
    head = ["after a failure", "of the time is progress", "of what is paid", "saved every", "a failure every"]
    return Table(head, rows, "Ways to go on after a failure", best=list(plan.goodputs).index(plan.strategy))


def _components(plan: TrainingPlan, rate: FailureRate) -> Table | None:
    if not rate.components:
        return None
    hours = plan.best.run.world * 24
    each = sorted(rate.components.items(), key=lambda item: -item[1])
    rows = []
    for name, per_hour in each:
        a_day = per_hour * hours
        said = f"{a_day:,.1f}" if a_day >= 1 else f"{a_day:.2g}"
        rows.append([name.replace("_", " "), said, f"{per_hour / rate.per_gpu_hour:.1%}"])
    return Table(["what fails", "times a day", "share"], rows, f"Failures a day of {plan.best.run.world:,} GPUs")


def _offers(plan: TrainingPlan) -> Table:
    rows = []
    for one in plan.offers:
        price = ["no published price", "", ""]
        if one.dollars is not None:
            price = [f"{one.dollars / 1e6:,.3g}", f"{one.dollars_per_gpu_hour:.2f}", one.date]
        rows.append([f"{one.cloud} {one.shape}", one.terms, f"{one.gpus:,}", f"{one.energy / 1e3:,.2f}", *price])
    head = ["place", "terms", "GPUs", "GWh", "million USD", "USD a GPU-hour", "price of"]
    return Table(head, rows, "What the run costs in each place")


def _constants() -> Table:
    k = Calibration()
    rows = [[name.name.replace("_", " "), f"{getattr(k, name.name):.3g}", name.metadata["unit"],
             name.metadata["meaning"]] for name in fields(k)]  # fmt: skip
    rows += [
        ["detect", f"{recovery.DETECT_SECONDS:g}", "s", "from a failure to the node replaced"],
        ["swap", f"{recovery.SWAP_SECONDS:g}", "s", "from a failure to a waiting spare in the node's place"],
        ["start", f"{recovery.START_SECONDS:g}", "s", "processes and communication groups"],
        ["repair", f"{recovery.REPAIR_SECONDS / 3600:g}", "h", "until a failed node can be used again"],
        ["copy", f"{recovery.COPY_BANDWIDTH / 1e9:g}", "GB/s", "from a GPU to its host, where a step stands still"],
    ]
    return Table(["constant", "value", "unit", "of what"], rows, "Constants of the model", words=True)


def _sources(plan: TrainingPlan, rate: FailureRate) -> list[tuple[str, str]]:
    found = [("GPU", plan.gpu.source), (f"failures ({rate.name})", rate.source)]
    found += [(f"price, {one.cloud} {one.terms}", f"{one.source}, {one.date}") for one in plan.offers if one.source]
    return found
