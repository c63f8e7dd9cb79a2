"""`troth export`: a model folder as one file for llama.cpp and what stands on it; adapters of a run as PEFT's folder,
and merged into the model that they are of."""

from pathlib import Path
from typing import Annotated

import typer

from troth.cli.options import AsJson, print_json


def command(
    folder: Annotated[
        Path,
        typer.Argument(help="A model folder: config.json, model.safetensors, tokenizer.json; or a run, of --adapters."),
    ],
    gguf: Annotated[
        Path | None, typer.Option("--gguf", help="The file to write; one that exists is replaced.", metavar="FILE")
    ] = None,
    kind: Annotated[
        str,
        typer.Option("--type", help="How a GGUF file stores matrices: bf16, q8_0 (half of it) or f32.", metavar="TYPE"),
    ] = "bf16",
    adapters: Annotated[
        Path | None,
        typer.Option("--adapters", help="Write what adapters a run has learned so far, as PEFT does.", metavar="DIR"),
    ] = None,
    merge: Annotated[
        Path | None,
        typer.Option("--merge", help="A PEFT folder, whose adapters are merged into the model.", metavar="ADAPTERS"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The merged model's folder.", metavar="DIR")] = None,
    json: AsJson = False,
) -> None:
    """Write a model as a GGUF file, with its tokenizer and chat template, or merged with adapters; or a run's adapters.

    Files and models appear whole or not at all.
    """
    if [gguf, adapters, merge].count(None) != 2 or (merge is None) != (out is None):
        raise ValueError("export: one of --gguf FILE, --adapters DIR, and --merge ADAPTERS with --out DIR is needed")
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    if gguf is not None:
        _gguf(folder, gguf, kind, json)
    elif adapters is not None:
        _adapters(folder, adapters, json)
    elif merge is not None and out is not None:
        _merge(folder, merge, out, json)


def _gguf(folder: Path, gguf: Path, kind: str, json: bool) -> None:
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


def _adapters(run: Path, folder: Path, json: bool) -> None:
    from troth.cli.output import console, say
    from troth.train.finish import export_adapters

    step = export_adapters(run, folder, say)
    if json:
        print_json({"adapters": str(folder), "step": step})
    else:
        console.print(f"{folder}: adapters after {step:,} steps", soft_wrap=True)


def _merge(folder: Path, adapters: Path, out: Path, json: bool) -> None:
    from troth.cli.output import console
    from troth.train.merge import merge_adapters

    parts = merge_adapters(folder, adapters, out)
    if json:
        print_json({"model": str(out), "parts": parts})
    else:
        console.print(f"Model: {out} ({len(parts)} parts changed)", soft_wrap=True)
