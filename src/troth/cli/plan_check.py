"""`troth plan check`: the time model against published runs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from troth.cli.options import AsJson, print_json
from troth.cli.output import console, figures_table, say, stderr
from troth.cli.plan_output import write_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from troth.plan.calibration import Calibration
    from troth.plan.check import Errors, Judged
    from troth.plan.published import Published


def plan_check(
    table: Annotated[Path, typer.Argument(help="Published runs, a CSV table.", metavar="PUBLISHED.CSV")],
    fit: Annotated[bool, typer.Option("--fit", help="Fit the constants to these rows first.")] = False,
    cross_validate: Annotated[
        bool, typer.Option("--cross-validate/--no-cross-validate", help="Predict each source by a fit without it.")
    ] = True,
    plot: Annotated[Path | None, typer.Option(help="Draw predicted against measured (.svg, .png, .pdf).")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write all of it as one page with pictures as well.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the planner's step times with published ones: errors by source, kind, scale and year, beside those of the
    naive rule, and every row that cannot be predicted with its reason."""
    from troth.plan.calibration import Calibration
    from troth.plan.check import fitted, judge
    from troth.plan.published import read_published

    rows = read_published(table)
    told = [row for row in rows if row.run is not None]
    if rows and not told:
        raise ValueError(f"{table}: no row says enough to be predicted; line {rows[0].line}: {rows[0].reason}")
    if cross_validate and len({row.source for row in told}) == 1:
        say(f"{table}: all rows are from one source, which cannot be left out; predicted with constants as they are")
        cross_validate = False
    constants = fitted(rows) if fit else Calibration()
    with _progress(cross_validate) as progress:
        judged = judge(rows, constants, cross_validate, progress)
    left = [row for row in rows if row.run is None]
    if plot:
        _plot(judged, plot)
    if html:
        from troth.plan.page.check_page import check_page

        write_page(html, check_page(judged, left, constants))
    if as_json:
        print_json(_data(judged, left, constants))
    else:
        _show(judged, left, constants)


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import Progress

    with Progress(console=stderr, transient=True, disable=not shown) as bar:
        task = bar.add_task("sources left out", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _data(judged: Sequence[Judged], left: Sequence[Published], constants: Calibration) -> dict[str, Any]:
    from troth.plan.check import GROUPS, KINDS, errors, errors_by, same_but_measured_apart
    from troth.plan.practice import practices

    def plain(found: Errors | None) -> dict[str, float] | None:
        return None if found is None else asdict(found)

    return {
        "errors": {name: plain(errors(judged, seconds)) for name, seconds in KINDS.items()},
        "equal_runs_apart": plain(same_but_measured_apart(judged)),
        "by": {name: {str(k): asdict(v) for k, v in errors_by(judged, key).items()} for name, key in GROUPS.items()},
        "constants": asdict(constants),
        "practices": [
            {"network": p.network, "published": p.seconds, "found": p.found_seconds}
            for p in practices(judged, constants)
        ],
        "rows": [
            {
                "line": one.published.line, "model": one.published.model, "source": one.published.source,
                "measured": one.published.seconds, "predicted": one.predicted, "source_left_out": one.left_out,
                "naive": one.naive, "memory": one.memory, "published_memory": one.published.memory,
            }
            for one in judged
        ],
        "not_predicted": [
            {"line": row.line, "model": row.model, "source": row.source, "reason": row.reason} for row in left
        ],
    }  # fmt: skip


def _show(judged: Sequence[Judged], left: Sequence[Published], constants: Calibration) -> None:
    from collections import Counter

    from troth.plan.check import GROUPS, KINDS, errors, errors_by, same_but_measured_apart
    from troth.plan.practice import practices

    whole = _table(f"{len(judged)} runs of {len(judged) + len(left)} rows, seconds a step")
    for name, seconds in KINDS.items():
        _row(whole, name, errors(judged, seconds))
    _row(whole, "equal runs, the median of each", same_but_measured_apart(judged))
    console.print(whole)
    for name, key in GROUPS.items():
        table = _table(f"By {name}")
        for group, found in errors_by(judged, key).items():
            _row(table, str(group), found)
        console.print(table)
    memory = Table("", "measured", "predicted", title="Memory of a GPU, GB")
    for one in judged:
        if one.published.memory:
            memory.add_row(one.published.model, f"{one.published.memory / 1e9:.1f}", f"{one.memory / 1e9:.1f}")
    console.print(memory)
    best = Table("", "layout", "s a step", "found", "s a step", "of it", title="Best practices and the search")
    for p in practices(judged, constants):
        sizes = [f"pp {r.pp}x{r.vpp}, tp {r.tp}, cp {r.cp}, ep {r.ep}" for r in (p.published, p.found)]
        best.add_row(p.network, sizes[0], f"{p.seconds:.2f}", sizes[1], f"{p.found_seconds:.2f}",
                     f"{p.found_seconds / p.seconds:.0%}")  # fmt: skip
    console.print(best)
    console.print(_constants(constants))
    reasons = Table("rows", "not predicted because", title="Left out")
    for reason, count in Counter(row.reason for row in left).most_common():
        reasons.add_row(str(count), reason)
    console.print(reasons)


def _table(title: str) -> Table:
    return figures_table("", "runs", "median error", "within 20%", "within 30%", "bias", title=title)


def _row(table: Table, name: str, found: Errors | None) -> None:
    if found is not None:
        table.add_row(name, *found.cells())


def _constants(constants: Calibration) -> Table:
    table = Table("constant", "before", "fitted", "unit", "what", title="Constants of the time model")
    for constant in fields(constants):
        known = constant.metadata
        table.add_row(constant.name, f"{known['prior']:.3g}", f"{getattr(constants, constant.name):.3g}", known["unit"],
                      known["meaning"])  # fmt: skip
    return table


def _plot(judged: Sequence[Judged], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 6), layout="constrained")
    for experts, colour, label in ((False, "#0072b2", "dense"), (True, "#d55e00", "mixture of experts")):
        chosen = [one for one in judged if bool(one.run.dimensions.experts) == experts]
        axes.scatter([one.published.seconds for one in chosen], [one.predicted for one in chosen], s=12, c=colour,
                     label=label, alpha=0.6)  # fmt: skip
    ends = [min(one.published.seconds for one in judged), max(one.published.seconds for one in judged)]
    axes.plot(ends, ends, c="0.4", lw=1)
    low, high = ([share * end for end in ends] for share in (0.8, 1.2))
    axes.fill_between(ends, low, high, color="0.4", alpha=0.12, label="within 20%")
    axes.set(xscale="log", yscale="log", xlabel="measured, s a step", ylabel="predicted, s a step")
    axes.legend(frameon=False)
    figure.savefig(path)
