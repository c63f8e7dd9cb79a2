"""`troth export`: a model folder as one file for llama.cpp and what stands on it."""

from pathlib import Path
from typing import Annotated

import typer

from troth.cli.options import AsJson, print_json


def command(
    folder: Annotated[Path, typer.Argument(help="A model folder: config.json, model.safetensors, tokenizer.json.")],
    gguf: Annotated[
        Path, typer.Option("--gguf", help="The file to write; one that exists is replaced.", metavar="FILE")
    ],
    kind: Annotated[
        str,
        typer.Option("--type", help="How matrices are stored: bf16, q8_0 (half of it) or f32.", metavar="TYPE"),
    ] = "bf16",
    json: AsJson = False,
) -> None:
    """Write a model as a GGUF file, with its tokenizer and chat template; the file appears whole or not at all."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
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
