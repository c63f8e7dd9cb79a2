"""What verbs print: progress of training, lines of news, results of one line and tables of figures."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from rich import markup
from rich.console import Console
from rich.table import Table

from troth.cli.options import print_json

if TYPE_CHECKING:
    from collections.abc import Callable

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)
_PICTURES = (
    {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"}
    | {0x7F: 0x2421}
    | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
)


def harmless(text: str) -> str:
    """What a model says or a file is called, its control characters as pictures (␛): a terminal would obey them."""
    return text.translate(_PICTURES)


def escape(text: str) -> str:
    """The same for a console that reads markup."""
    return markup.escape(harmless(text))


def say(text: str) -> None:
    """One line of news, out of the way of results."""
    stderr.print(text, soft_wrap=True, markup=False)


def show_result(result: dict[str, Any], text: str, as_json: bool) -> None:
    """A result of one line, for people or, as JSON, for programs."""
    if as_json:
        print_json(result)
    else:
        console.print(text, soft_wrap=True, markup=False)


def figures_table(*head: str, title: str) -> Table:
    """A table whose first column names the rows; all others are numbers, at the right."""
    table = Table(*head, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def training_progress(title: str, shown: bool = True) -> Any:
    """Progress of training on standard error, where it is shown."""
    from troth.train.progress import Progress

    return Progress(title) if shown else contextlib.nullcontext(lambda metrics: None)


def curation_report(report: dict[str, Any]) -> Table:
    """What a curation did, line by line, and how well it told errors that it planted itself."""
    canaries = report["canaries"]
    table = figures_table("", "", title="Curation")
    table.show_header = False

    def share(found: dict[str, float]) -> str:
        return f"{found['share']:.1%} ({found['low']:.1%} to {found['high']:.1%})"

    if "collected" in report:  # a finished folder may be an earlier version's
        table.add_row("documents collected", f"{report['collected']:,}")
        if report["set_aside"]:
            table.add_row("files or records set aside", f"{report['set_aside']:,}")
    table.add_row("documents kept", f"{report['documents']:,}")
    for what in ("dropped", "changed", "corrections"):
        for rule, count in report[what].items():
            table.add_row(f"{what.removesuffix('s')}: {rule.replace('_', ' ')}", f"{count:,}")
    table.add_row("dropped: duplicates", f"{report['duplicates']:,}")
    table.add_section()
    table.add_row("claims", f"{report['claims']:,}")
    table.add_row("  with evidence from others", f"{report['claims_with_evidence']:,}")
    for axes, count in report["verdicts"].items():
        table.add_row(f"  {axes.replace('_', ' ')}", f"{count:,}")
    table.add_section()
    table.add_row(f"planted errors caught, of {canaries['recall']['whole']:,}", share(canaries["recall"]))
    table.add_row("  of these mended exactly", share(canaries["exactness"]))
    table.add_row(f"false alarms, of {canaries['false_alarms']['whole']:,}", share(canaries["false_alarms"]))
    if asked := report["endpoint"]:
        table.add_section()
        table.add_row("endpoint: requests, from the cache", f"{asked['requests']:,}, {asked['cached']:,}")
        if asked["unanswered"]:
            table.add_row("  claims without a usable answer", f"{asked['unanswered']:,}")
        tokens = f"{asked['tokens_in']:,}, {asked['tokens_out']:,}"
        table.add_row("  tokens in and out, cost", f"{tokens}, {asked['cost']:.2f}")
    return table


def cycle_table(scores: dict[str, Any]) -> Table:
    """The two generations side by side, and how curation did against the key."""
    before, after = scores["generations"]
    table = figures_table(
        "", "generation 0 (raw)", "generation 1 (curated)", title="Held-out questions, four options each"
    )

    def row(label: str, show: Callable[[dict[str, Any]], str]) -> None:
        table.add_row(label, show(before), show(after))

    row(f"true, {before['untouched_count']} untouched facts", lambda g: f"{g['untouched']:.1%}")
    row(f"true, {before['corrupted_count']} corrupted facts", lambda g: f"{g['corrupted']:.1%}")
    row("wrong answers on corrupted facts", lambda g: str(g["wrong_on_corrupted"]))
    row("calibration error", lambda g: f"{g['calibration_error']:.3f}")
    if before["bits_per_byte"] is not None:
        row("bits per byte, held-out prose", lambda g: f"{g['bits_per_byte']:.3f}")
    return table


def curation_table(score: dict[str, Any]) -> Table:
    """Share of wrong statements caught, by kind, and the false alarms."""
    table = figures_table("", "caught", "of", "share", title="Statements of the key, after duplicates went")
    for kind, (found, count) in score["by_kind"].items():
        table.add_row(kind.replace("_", " "), str(found), str(count), f"{found / count:.0%}")
    table.add_section()
    caught, mended, wrong = score["caught"], score["mended"], score["wrong"]
    alarms, right = score["false_alarms"], score["right"]
    table.add_row("all wrong statements", str(caught), str(wrong), f"{caught / wrong:.0%}")
    table.add_row("  of these mended to the truth", str(mended), str(wrong), f"{mended / wrong:.0%}")
    table.add_row("false alarms on right statements", str(alarms), str(right), f"{alarms / right:.1%}")
    return table
