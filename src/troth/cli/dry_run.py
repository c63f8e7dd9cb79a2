"""What `troth train --dry-run` prints: the layout, memory by kind against a GPU's, and what goes between ranks."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from troth.cli.options import print_json
from troth.cli.output import console, figures_table

if TYPE_CHECKING:
    from troth.system import System
    from troth.train.dry_run.run import Report

GPU_BYTES = 80e9
"""An H100's memory."""


def show_dry_run(settings: System, world: int, as_json: bool) -> None:
    """Run one step of the training code as a rank of `world`, and print what it took. Raises ValueError where the
    layout does not fit the world."""
    from troth.train.dry_run.run import dry_run

    report = dry_run(settings.model, settings.train, settings.parallel, world)
    if as_json:
        print_json(asdict(report) | {"fits": report.worst.peak.bytes <= GPU_BYTES})
        return
    groups = report.layout.replica_groups
    active = f"{groups * report.layout.world:,} active ranks" + (f" in {groups} replica groups" if groups > 1 else "")
    active += f", {report.spares:,} hot spares" if report.spares else ""
    sizes = ("pp", "dp_replicate", "dp_shard", "cp", "tp", "ep", "etp", "micro_batches")
    console.print(f"{active}: " + ", ".join(f"{name} {getattr(report.layout, name)}" for name in sizes), soft_wrap=True)
    console.print(_memory(report))
    console.print(_collectives(report))
    peak = report.worst.peak
    room = f"{'fits' if peak.bytes <= GPU_BYTES else 'does not fit'} {GPU_BYTES / 1e9:.0f} GB"
    console.print(f"The peak, {peak.bytes / 1e9:.1f} GB ({peak.moment}), {room}", soft_wrap=True)
    own = sum(rank.seconds for rank in report.ranks)
    console.print(f"This run took {report.seconds:.0f} s, {own:.0f} s of one processor", soft_wrap=True)


def _memory(report: Report) -> Table:
    ranks = (f"rank {rank.rank:,}" for rank in report.ranks)
    table = figures_table("", *ranks, title=f"Memory at the peak, GB, with products in {report.precision}")
    for kind in report.worst.peak.by_kind:
        table.add_row(kind, *(f"{rank.peak.by_kind[kind] / 1e9:.2f}" for rank in report.ranks))
    table.add_section()
    table.add_row("peak", *(f"{rank.peak.bytes / 1e9:.2f}" for rank in report.ranks))
    table.add_row("of a GPU's", *(f"{rank.peak.bytes / GPU_BYTES:.0%}" for rank in report.ranks))
    return table


def _collectives(report: Report) -> Table:
    table = Table(title=f"Between ranks in a step, as rank {report.worst.rank:,} has it")
    for name in ("", "over", "ranks", "times", "GB"):
        table.add_column(name, justify="left" if name in ("", "over") else "right")
    for c in report.worst.collectives:
        table.add_row(c.kind, c.group, f"{c.ranks:,}", f"{c.count:,}", f"{c.bytes / 1e9:.3f}")
    return table
