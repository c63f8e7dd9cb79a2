"""`troth export`: a model as one file for llama.cpp and what stands on it, or a curation for other data tools."""

from pathlib import Path
from typing import Annotated

import typer

from troth.cli.options import AsJson, print_json


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A model folder (config.json, model.safetensors, tokenizer.json), or what `troth curate --out` wrote."
        ),
    ],
    gguf: Annotated[
        Path | None,
        typer.Option("--gguf", help="Of a model: the file to write; one that exists is replaced.", metavar="FILE"),
    ] = None,
    kind: Annotated[
        str,
        typer.Option("--type", help="How matrices are stored: bf16, q8_0 (half of it) or f32.", metavar="TYPE"),
    ] = "bf16",
    parquet: Annotated[
        Path | None, typer.Option("--parquet", help="Of a curation: a new folder of Parquet files.", metavar="DIR")
    ] = None,
    delta: Annotated[
        Path | None, typer.Option("--delta", help="Of a curation: a new folder of Delta tables.", metavar="DIR")
    ] = None,
    iceberg: Annotated[
        Path | None,
        typer.Option("--iceberg", help="Of a curation: a new folder of Iceberg tables with catalog.db.", metavar="DIR"),
    ] = None,
    json: AsJson = False,
) -> None:
    """Write a model as a GGUF file, with its tokenizer and chat template; the file appears whole or not at all.

    Or write a curation, its documents and the tables of its ledger, as Parquet, Delta Lake or Iceberg.
    """
    asked = {"gguf": gguf, "parquet": parquet, "delta": delta, "iceberg": iceberg}
    given = [(form, to) for form, to in asked.items() if to is not None]
    if len(given) != 1:
        raise ValueError("export: expected one of --gguf FILE, --parquet DIR, --delta DIR and --iceberg DIR")
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    form, to = given[0]
    if form == "gguf":
        _model(folder, to, kind, json)
    else:
        _curation(folder, form, to, json)


def _curation(folder: Path, form: str, to: Path, json: bool) -> None:
    from troth.cli.output import console, say
    from troth.curate.integrate.lake import export_tables

    rows = export_tables(folder, form, to, say)
    if json:
        print_json({"path": str(to), "form": form, "rows": rows})
        return
    for name, count in rows.items():
        console.print(f"{name}: {count:,} rows")
    console.print(f"{form}: {to}", soft_wrap=True)


def _model(folder: Path, gguf: Path, kind: str, json: bool) -> None:
    if gguf.is_dir() or not gguf.parent.is_dir():
        raise ValueError(f"{gguf}: {'is a folder' if gguf.is_dir() else 'its folder does not exist'}")
    from dataclasses import asdict

    from rich.filesize import decimal
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from troth.cli.output import console, errors, say
    from troth.model.gguf.export import export_gguf

    columns = TextColumn("export"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("export", total=None)
        done = export_gguf(folder, gguf, kind, lambda done, total: progress.update(task, completed=done, total=total))
    if json:
        print_json(asdict(done) | {"path": str(done.path), "type": kind})
        return
    if done.empty:
        say(
            f"{done.empty} of the {done.layers} layers in the file change nothing: they keep the others in place, "
            "since in llama.cpp every fourth layer is blind to positions"
        )
    console.print(f"{done.path}: {decimal(done.bytes)}, {done.tensors} tensors ({kind})", soft_wrap=True)
