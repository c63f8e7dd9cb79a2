"""Numbers as people read them, the same on the terminal and on a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from troth.plan.layouts import CHECKPOINTING

if TYPE_CHECKING:
    from troth.plan.training import TrainingPlan


def time_said(seconds: float) -> str:
    """Milliseconds to hours: "48 ms", "1.6 s", "8 min", "4.4 h"."""
    if seconds < 1:
        return f"{seconds * 1e3:,.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def count_said(number: float) -> str:
    """Three digits and a scale: "100.7 million", "30 trillion"; whole below a million."""
    for scale, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= scale:
            return f"{number / scale:,.4g} {name}"
    return f"{number:,.0f}"


def short_count(number: float) -> str:
    """For the ticks of an axis: "16k", "2.5M"."""
    for scale, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:.3g}{name}"
    return f"{number:.3g}"


def toml_table(name: str, values: dict[str, Any]) -> str:
    """A table of a system file."""
    lines = (f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in values.items())
    return "\n".join([f"[{name}]", *lines])


def system_tables(plan: TrainingPlan) -> str:
    """The tables of a system file that train the best layout, with a remark where its copies must outlive each other
    for the goodput that is planned."""
    best, copies = plan.best, plan.best.run.dp_replicate
    kept = next(name for name, share in CHECKPOINTING.items() if share == best.run.recompute)
    train = {
        "batch_tokens": plan.batch_tokens, "precision": best.run.precision, "activation_checkpointing": kept,
    }  # fmt: skip
    parallel = toml_table("parallel", best.table.model_dump())
    if plan.strategy == "replica groups":
        parallel += (
            f"\n# Copies outlive each other with dp_replicate = 1 and replica_groups = {copies}, each group of "
            f"{best.run.world // copies:,} ranks under a torchrun of its own."
        )
    return parallel + "\n\n" + toml_table("train", train)


@dataclass(frozen=True)
class Table:
    """For a page: the first column names the row, others are numbers unless `words`. best: a row that stands out;
    roles: CSS classes of the rows' colours, if they have any."""

    head: list[str]
    rows: list[list[str]]
    caption: str
    words: bool = False
    best: int = -1
    roles: tuple[str, ...] = ()
