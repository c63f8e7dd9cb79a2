"""`troth cycle`: documents to a measured model, through one turn of self-correction."""

from pathlib import Path
from typing import Annotated

import typer

from troth.cli.options import AsJson, Changes, SystemName, print_json, read_system
from troth.cli.output import console, curation_table, cycle_table, say, training_progress


def command(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that the cycle makes.", metavar="DIR")],
    key: Annotated[
        Path | None, typer.Option("--key", help="Questions to measure with (default: the library's).")
    ] = None,
    system: SystemName = "nano",
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Train on raw documents, let models cross-examine and mend them, train again, and measure both.

    Run it again to continue after an interruption; what is finished is not done twice.
    """
    settings = read_system(system, changes)
    from troth.cycle.generations import Cycle, run_cycle
    from troth.cycle.report import write_report
    from troth.evaluate.questions import read_key

    scores = run_cycle(Cycle(settings, out, say, training_progress), read_key(key))
    report = write_report(out, scores)
    if as_json:
        print_json(scores)
        return
    console.print(cycle_table(scores), curation_table(scores["curation"]))
    told = f"Report: {report}\nModel:  {out / 'best'} (generation {scores['best']})"
    console.print(told, soft_wrap=True, markup=False)
