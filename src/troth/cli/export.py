"""`troth export`: a model as one file for llama.cpp and what stands on it, a run's adapters as PEFT's folder or merged
into their model, and a curation for other data tools."""

from pathlib import Path
from typing import Annotated

import typer

from troth.cli.options import AsJson, print_json
from troth.cli.output import console, say, show_result, stderr


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A model folder (config.json, model.safetensors, tokenizer.json), a run, or what `troth curate` wrote."
        ),
    ],
    gguf: Annotated[
        Path | None,
        typer.Option("--gguf", help="Of a model: the file to write; one that exists is replaced.", metavar="FILE"),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--type",
            help="How a GGUF file stores matrices: bf16, q8_0 (half of it) or f32; gpt-oss's 4 bits stay but in f32.",
            metavar="TYPE",
        ),
    ] = "bf16",
    adapters: Annotated[
        Path | None,
        typer.Option("--adapters", help="Of a run: what its adapters learned so far, as PEFT does.", metavar="DIR"),
    ] = None,
    merge: Annotated[
        Path | None,
        typer.Option("--merge", help="Of a model: a PEFT folder, whose adapters are merged in.", metavar="ADAPTERS"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The merged model's folder.", metavar="DIR")] = None,
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
    as_json: AsJson = False,
) -> None:
    """Write a model as a GGUF file, with its tokenizer and chat template, or merged with adapters; or a run's adapters.

    Or write a curation, its documents and the tables of its ledger, as Parquet, Delta Lake or Iceberg. Files and models
    appear whole or not at all.
    """
    asked = {
        "gguf": gguf, "adapters": adapters, "merge": merge, "parquet": parquet, "delta": delta, "iceberg": iceberg,
    }  # fmt: skip
    given = [(form, to) for form, to in asked.items() if to is not None]
    if len(given) != 1 or (merge is None) != (out is None):
        raise ValueError(
            "export: expected one of --gguf FILE, --adapters DIR, --merge ADAPTERS with --out DIR, --parquet DIR, "
            "--delta DIR and --iceberg DIR"
        )
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    form, to = given[0]
    if form == "gguf":
        _gguf(folder, to, kind, as_json)
    elif form == "adapters":
        _adapters(folder, to, as_json)
    elif out is not None:
        _merge(folder, to, out, as_json)
    else:
        _curation(folder, form, to, as_json)


def _curation(folder: Path, form: str, to: Path, as_json: bool) -> None:
    from troth.curate.integrate.lake import export_tables

    rows = export_tables(folder, form, to, say)
    if as_json:
        print_json({"path": str(to), "form": form, "rows": rows})
        return
    for name, count in rows.items():
        console.print(f"{name}: {count:,} rows")
    console.print(f"{form}: {to}", soft_wrap=True, markup=False)


def _gguf(folder: Path, gguf: Path, kind: str, as_json: bool) -> None:
    if gguf.is_dir() or not gguf.parent.is_dir():
        raise ValueError(f"{gguf}: {'is a folder' if gguf.is_dir() else 'its folder does not exist'}")
    from dataclasses import asdict

    from rich.filesize import decimal
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from troth.model.gguf.export import export_gguf

    columns = TextColumn("export"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("export", total=None)
        done = export_gguf(folder, gguf, kind, lambda done, total: progress.update(task, completed=done, total=total))
    if as_json:
        print_json(asdict(done) | {"path": str(done.path), "type": kind})
        return
    if done.empty:
        say(
            f"{done.empty} of the {done.layers} layers in the file change nothing: they keep the others in place, "
            "since in llama.cpp every fourth layer is blind to positions"
        )
    if done.rounded:
        say(
            "llama.cpp rounds the borders of YaRN, which this model does not (rope_parameters.truncate=False): its "
            "scores will differ; docs/gguf.md says by how much"
        )
    told = f"{done.path}: {decimal(done.bytes)}, {done.tensors} tensors ({kind})"
    console.print(told, soft_wrap=True, markup=False)


def _adapters(run: Path, folder: Path, as_json: bool) -> None:
    from troth.train.finish import export_adapters

    step = export_adapters(run, folder, say)
    show_result({"adapters": str(folder), "step": step}, f"{folder}: adapters after {step:,} steps", as_json)


def _merge(folder: Path, adapters: Path, out: Path, as_json: bool) -> None:
    from troth.train.merge import merge_adapters

    parts = merge_adapters(folder, adapters, out)
    show_result({"model": str(out), "parts": parts}, f"Model: {out} ({len(parts)} parts changed)", as_json)
