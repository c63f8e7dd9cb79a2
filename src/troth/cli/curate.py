"""`troth curate`: audit and clean documents; every drop and every correction is explained in the ledger."""

from pathlib import Path
from typing import Annotated

import typer

from troth.cli.options import AsJson, Changes, SystemName, print_json, read_system
from troth.cli.output import console, curation_report, say, training_progress


def command(
    sources: Annotated[
        list[str], typer.Argument(help="Files, folders, URLs (s3://, abfs://, https://); also `library` and `python`.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for documents/, ledger/ and report.json.", metavar="DIR")],
    examine: Annotated[
        bool, typer.Option(help="Train small models that cross-examine the documents (minutes).")
    ] = False,
    executor: Annotated[
        str | None, typer.Option(help="Where to work: local, ray or slurm (also: curate.executor).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes at once; 0 for one a core (also: curate.workers).")
    ] = None,
    generation: Annotated[
        int, typer.Option(help="The model generation that this data is for; text by it or later ones is no evidence.")
    ] = 1,
    system: SystemName = "nano",
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Remove junk and duplicates, judge claims against other publishers, mend, date, attribute or drop what is wrong.

    Writes the curated documents as Parquet and a ledger of Lance tables that explains each decision. Run again after an
    interruption, it goes on where it stood.
    """
    given = {"curate.executor": executor, "curate.workers": workers}
    more = [f"{key}={value}" for key, value in given.items() if value is not None]
    settings = read_system(system, [*(changes or []), *more])
    from troth.curate.pipeline import Curation, curate

    run = Curation(
        tuple(sources), out, settings.curate, generation, settings.train.seed, settings.data.max_python_bytes, say
    )
    examiners = classifier = None  # what holds a model loads torch, and is not imported where none is used
    if examine:
        from troth.cycle.examiners import examiners_for

        examiners = examiners_for(settings, out / "examiners", training_progress)
    if "entailment" in settings.curate.verifiers and settings.curate.entailment_model:
        from troth.evaluate.entail import EntailmentModel

        classifier = EntailmentModel.load(settings.curate.entailment_model)
    report = curate(run, examiners, classifier)
    if as_json:
        print_json(report)
    else:
        console.print(curation_report(report))
        if told := report.get("caveat"):  # a finished folder may be an earlier version's
            console.print(f"{told[0].upper()}{told[1:]}.", soft_wrap=True)
        if report["accepted"]:
            console.print(f"Curated documents: {out / 'documents'}", soft_wrap=True, markup=False)
        console.print(f"Ledger: {out / 'ledger'}", soft_wrap=True, markup=False)
    if not report["accepted"]:
        raise ValueError(f"{out}: not integrated: {report['reason']}")
