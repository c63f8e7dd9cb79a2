"""`troth curate`: audit and clean documents; every drop and every correction is explained in the ledger."""

from pathlib import Path
from typing import Annotated

import typer

from troth.cli.options import AsJson, Changes, SystemName, print_json, read_system


def command(
    sources: Annotated[list[str], typer.Argument(help="Files or folders; also `library` and `python`.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for documents.parquet, ledger/ and report.json.", metavar="DIR")
    ],
    examine: Annotated[
        bool, typer.Option(help="Train small models that cross-examine the documents (minutes).")
    ] = False,
    system: SystemName = "nano",
    changes: Changes = None,
    json: AsJson = False,
) -> None:
    """Remove junk and duplicates, judge claims against other publishers, mend or drop what is wrong.

    Writes the curated documents as Parquet and a ledger of Lance tables that explains each decision.
    """
    settings = read_system(system, changes)
    from troth.cli.output import console, quiet_progress, say
    from troth.curate.collect import collect
    from troth.curate.pipeline import clean, curate, judged_documents
    from troth.cycle.examiners import train_examiners
    from troth.model.tokenizer import Tokenizer

    found = collect(settings.data.model_copy(update={"sources": sources}))
    for rejected in found.rejected:
        say(f"set aside {rejected.source}: {rejected.reason}")
    if not found.documents:
        raise ValueError(f"{', '.join(sources)}: no readable documents")
    cleaned = clean(found.documents, settings.curate)
    say(f"{len(found.documents)} documents, {len(cleaned.documents)} left without junk and duplicates")
    examiner = None
    if examine:
        tokenizer = Tokenizer.train((d.text for d in cleaned.documents), settings.model.vocab_size)
        whole = settings.model_copy(update={"data": settings.data.model_copy(update={"weights": {}})})
        judged = judged_documents(cleaned.documents)
        examiner = train_examiners(judged, tokenizer, whole, out / "examiners", quiet_progress)
    report = curate(cleaned, examiner, settings.curate, out, generation=1, seed=settings.train.seed, progress=say)
    if json:
        print_json(report)
        return
    for name, value in report.items():
        console.print(f"[bold]{name.replace('_', ' ')}[/bold]: {value}", soft_wrap=True)
    console.print(f"Curated documents: {out / 'documents.parquet'}\nLedger: {out / 'ledger'}", soft_wrap=True)
