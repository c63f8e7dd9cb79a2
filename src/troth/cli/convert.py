"""`troth convert`: weights as their makers released them, to a folder that everything reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from troth.cli.options import AsJson, print_json
from troth.cli.output import say, stderr

if TYPE_CHECKING:
    import torch

    from troth.model.families.grok_1_raw import Grok1Checkpoint
    from troth.model.families.grok_2_shards import Grok2Shards

_BESIDE = ("tokenizer*", "special_tokens_map.json", "chat_template*", "generation_config.json", "LICENSE*")
"""Files that belong to the weights and stay as they are."""


def command(
    source: Annotated[Path, typer.Argument(help="The released folder of Grok-1 or Grok-2.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="The new folder.", metavar="FOLDER", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Turn a released checkpoint, Grok-1's pickles or Grok-2's files for eight GPUs, into a Hugging Face folder."""
    from troth.model.families.folder import write_tensors

    if out.exists():
        raise ValueError(f"{out}: exists already; choose another folder")
    checkpoint = _open(source)
    size = 2 * checkpoint.parameters
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if (free := shutil.disk_usage(partial).free) < size:
        partial.rmdir()
        raise ValueError(f"{out}: needs {size / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free")
    write_tensors(partial, _shown(_rounded(checkpoint), size))
    (partial / "config.json").write_text(json.dumps(checkpoint.config(), indent=2), encoding="utf-8")
    for pattern in _BESIDE:
        for file in sorted(source.glob(pattern)):
            shutil.copyfile(file, partial / file.name)
    partial.replace(out)
    if as_json:
        print_json({"folder": str(out), "parameters": checkpoint.parameters})
    else:
        say(f"{out}: {checkpoint.parameters:,} parameters in bfloat16")


def _open(source: Path) -> Grok1Checkpoint | Grok2Shards:
    from troth.model.families.grok_1_raw import open_grok_1
    from troth.model.families.grok_2_shards import open_grok_2

    for folder in (source, source / "ckpt-0", source / "checkpoints" / "ckpt-0"):
        if any(folder.glob("tensor*_000")):
            return open_grok_1(folder)
    if any(source.glob("*-TP-*.safetensors")):
        return open_grok_2(source)
    raise ValueError(f"{source}: neither ckpt-0/tensor00000_000 (Grok-1) nor *-TP-000.safetensors (Grok-2) is in it")


def _rounded(checkpoint: Grok1Checkpoint | Grok2Shards) -> Iterator[tuple[str, torch.Tensor]]:
    """All weights in bfloat16, but the few that are computed with in float32 as they are: norms and routers."""
    import torch

    for name, tensor in checkpoint.tensors():
        exact = tensor.ndim == 1 or name.endswith(".gate.weight")
        yield name, tensor if exact else tensor.to(torch.bfloat16)


def _shown(tensors: Iterator[tuple[str, torch.Tensor]], size: int) -> Iterator[tuple[str, torch.Tensor]]:
    """The same, with progress on standard error."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("convert"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr) as progress:
        task = progress.add_task("", total=size)
        for name, tensor in tensors:
            yield name, tensor
            progress.advance(task, tensor.nbytes)
