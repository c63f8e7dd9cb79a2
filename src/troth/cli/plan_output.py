"""What the planner's verbs have in common: a page to look at, and an earlier plan beside the one of now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from troth.cli.output import figures_table, say

if TYPE_CHECKING:
    from troth.plan.compare import Difference

Html = Annotated[
    Path | None, typer.Option("--html", help="Write the plan as one page for a browser as well.", metavar="FILE")
]
Prices = Annotated[
    Path | None, typer.Option("--prices", help="TOML over single entries of the price file.", metavar="FILE")
]
Compare = Annotated[
    Path | None,
    typer.Option("--compare", help="Show this plan beside an earlier one, saved with --json.", metavar="FILE"),
]


def write_page(path: Path, page: str) -> None:
    """Write it and say so on standard error. Raises ValueError where the file cannot be written."""
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--html {path}: cannot be written: {error.strerror}") from error
    say(f"{path} has the page")


def differences_table(differences: list[Difference], earlier: Path | None) -> Table:
    """Both plans with what was added to and what multiplied each number."""
    from rich.text import Text

    table = figures_table("", "before", "now", "difference", "ratio", title=f"This plan beside {earlier}")
    for one in differences:
        table.add_row(*(Text(cell) for cell in one.cells()), style="dim" if one.before == one.after else None)
    return table
