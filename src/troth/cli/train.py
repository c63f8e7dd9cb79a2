"""`troth train`: documents in, a Hugging Face folder out."""

from pathlib import Path
from typing import Annotated

import typer

from troth.cli.options import AsJson, Changes, SystemName, print_json, read_system


def command(
    documents: Annotated[
        Path, typer.Argument(help="A Parquet file with the columns text and, optionally, collection.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Run folder: checkpoints, metrics, model.", metavar="DIR")],
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="Folder with a tokenizer.json (default: train one).", metavar="DIR"),
    ] = None,
    system: SystemName = "nano",
    changes: Changes = None,
    json: AsJson = False,
) -> None:
    """Train the system's network on documents. Run the same command again to continue an interrupted run."""
    settings = read_system(system, changes)
    from troth.cli.output import console, quiet_progress, say
    from troth.curate.integrate.corpus import read_documents
    from troth.model.counts import count_parameters
    from troth.model.tokenizer import Tokenizer
    from troth.train.mixture import sample
    from troth.train.shards import write_shards
    from troth.train.trainer import train

    shards = out / "shards"
    own = tokenizer or out / "tokenizer"
    if not (shards / "shards.json").exists():
        found = read_documents(documents)
        if tokenizer is None:
            own.mkdir(parents=True, exist_ok=True)
            texts = sample(((d.collection, d.text) for d in found), settings.data.weights)
            Tokenizer.train(texts, settings.model.vocab_size).save(own)
        write_shards(((d.collection, d.text, d.weight) for d in found), Tokenizer.load(own), shards)
    words = Tokenizer.load(own)
    if words.vocab_size > settings.model.vocab_size:
        raise ValueError(f"{own}: {words.vocab_size} tokens do not fit model.vocab_size={settings.model.vocab_size}")
    counts = count_parameters(settings.model)
    say(f"{counts.total:,} parameters, {counts.active:,} active on a token")
    with quiet_progress("train") as report:
        model = train(settings.model, settings.train, settings.data.weights, words, shards, out, report)
    if json:
        print_json({"model": str(model), "parameters": counts.total, "active": counts.active})
    else:
        console.print(f"Model: {model}", soft_wrap=True)
