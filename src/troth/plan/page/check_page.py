"""The page of `troth plan check`: predicted against measured, and errors by what runs have in common."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields

from troth.plan.calibration import Calibration
from troth.plan.check import GROUPS, KINDS, Errors, Judged, errors, errors_by, same_but_measured_apart
from troth.plan.page.render import render
from troth.plan.page.svg import Axis, Series, axis, points, strips
from troth.plan.page.words import Table
from troth.plan.published import Published

ROLES = {"dense": "products", "mixture of experts": "traffic"}

RATIOS = (0.4, 2.5)
"""Ends of the axis of predicted over measured; what lies beyond is drawn at an end."""

BAND = (0.8, 1.2)

LONG = 24
"""Letters of a group's name from which it has more room."""


def check_page(judged: Sequence[Judged], left: Sequence[Published], constants: Calibration) -> str:
    """The HTML of what was compared; left: rows that could not be predicted. At least one run was judged."""
    found = {name: errors(judged, seconds) for name, seconds in KINDS.items()}
    found["equal runs, the median of each"] = same_but_measured_apart(judged)
    rows = [[name, *one.cells()] for name, one in found.items() if one]
    return render(
        "check.html", runs=len(judged), rows=len(judged) + len(left), facts=_facts(found),
        legend=[(role, name) for name, role in ROLES.items()], picture=_against(judged),
        whole=Table(HEAD, rows, "Seconds a step, all runs"),
        groups=[(name, _strips(judged, name, key), _table(judged, name, key)) for name, key in GROUPS.items()],
        memory=_memory(judged), constants=_constants(constants), left=_left(left),
    )  # fmt: skip


HEAD = ["", "runs", "median error", "within 20%", "within 30%", "bias"]


def _facts(found: dict[str, Errors | None]) -> list[tuple[str, str, str]]:
    said = "median error; {:.0%} within 20%"
    return [(name, f"{one.median:.1%}", said.format(one.within_20)) for name, one in found.items() if one]


def _said(one: Judged) -> str:
    ratio = one.predicted / one.published.seconds
    return (f"{one.published.model} on {one.run.world:,} {one.run.gpu.name}, line {one.published.line}: "
            f"{one.predicted:.3g} s for {one.published.seconds:.3g} s measured, {ratio - 1:+.0%}")  # fmt: skip


def _against(judged: Sequence[Judged]) -> str:
    every = [seconds for one in judged for seconds in (one.published.seconds, one.predicted)]
    x, y = (axis(name, every, lambda v: f"{v:g}", log=True) for name in ("measured, s a step", "predicted, s a step"))
    series = []
    for name, role in ROLES.items():
        chosen = [one for one in judged if GROUPS["kind"](one) == name]
        measured, predicted = [one.published.seconds for one in chosen], [one.predicted for one in chosen]
        series.append(Series(name, role, measured, predicted, [_said(one) for one in chosen]))
    ends = [min(every), max(every)]
    guides = [Series("equal", "idle", ends, ends, [])]
    return points(series, guides, x, y, f"Predicted against measured seconds a step of {len(judged)} runs")


def _strips(judged: Sequence[Judged], name: str, key: Callable[[Judged], object]) -> str:
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        groups.setdefault(str(key(one)), []).append(one)
    rows = [
        Series(group, "products", [one.predicted / one.published.seconds for one in groups[group]], [],
               [_said(one) for one in groups[group]])
        for group in sorted(groups)
    ]  # fmt: skip
    ratio = Axis("predicted over measured", *RATIOS, lambda v: f"{v:g}", log=True)
    room = 530 if max(len(group) for group in groups) > LONG else 124
    return strips(rows, ratio, BAND, f"Predicted over measured seconds by {name}", room)


def _table(judged: Sequence[Judged], name: str, key: Callable[[Judged], object]) -> Table:
    rows = [[str(group), *found.cells()] for group, found in errors_by(judged, key).items()]
    return Table(HEAD, rows, f"Errors by {name}")


def _memory(judged: Sequence[Judged]) -> Table:
    rows = [
        [one.published.model, f"{one.run.world:,}", f"{one.published.memory / 1e9:.1f}", f"{one.memory / 1e9:.1f}",
         f"{one.memory / one.published.memory - 1:+.0%}"]
        for one in judged if one.published.memory
    ]  # fmt: skip
    return Table(["", "GPUs", "measured, GB", "predicted, GB", "error"], rows, "Memory of a GPU at its peak")


def _constants(constants: Calibration) -> Table:
    rows = [
        [one.name, f"{one.metadata['prior']:.3g}", f"{getattr(constants, one.name):.3g}", one.metadata["unit"],
         one.metadata["meaning"]]
        for one in fields(constants)
    ]  # fmt: skip
    return Table(["", "before any fit", "fitted", "unit", "what"], rows, "Constants of the time model", words=True)


def _left(left: Sequence[Published]) -> Table:
    rows = [[reason, str(count)] for reason, count in Counter(row.reason for row in left).most_common()]
    return Table(["", "rows"], rows, "Rows that say too little")
