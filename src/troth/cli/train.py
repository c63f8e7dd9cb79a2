"""`troth train`: documents in, a Hugging Face folder out; alone, or on all ranks that torchrun, Slurm or Ray start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from troth.cli.dry_run import show_dry_run
from troth.cli.options import AsJson, Changes, SystemName, print_json, read_system

if TYPE_CHECKING:
    from troth.system import System


def command(
    documents: Annotated[
        list[str] | None,
        typer.Argument(
            help="Parquet, JSON lines or Lance, files, folders or URLs, with the columns text and, optionally, "
            "collection and weight."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder: checkpoints, metrics, model.", metavar="DIR")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="Folder with a tokenizer.json (default: train one).", metavar="DIR"),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Go on from a model: its shape, weights and tokenizer.", metavar="FOLDER"),
    ] = None,
    preflight: Annotated[
        bool, typer.Option("--preflight", help="Measure each rank first, and name the slow ones.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Take one step without numbers or GPUs, and say what it takes of each.")
    ] = False,
    world: Annotated[int, typer.Option("--world", help="GPUs of a dry run.", min=1)] = 1,
    system: SystemName = "nano",
    changes: Changes = None,
    json: AsJson = False,
) -> None:
    """Train the system's network on documents. Run the same command again to continue an interrupted run.

    On many ranks, laid out by the system's [parallel] table: torchrun --nproc-per-node 8 --no-python troth train ...
    """
    settings = read_system(system, changes)
    if start is not None:
        settings = _of_folder(settings, start, changes or [])
    if dry_run:
        show_dry_run(settings, world, json)
        return
    if not documents or out is None:
        raise ValueError("train: documents and --out DIR are needed, but for a --dry-run")
    from troth.cli.output import console, quiet_progress, say
    from troth.model.counts import count_parameters
    from troth.model.tokenizer import Tokenizer
    from troth.system import lay_out
    from troth.train.job import documents_job
    from troth.train.parallel.ranks import joined
    from troth.train.trainer import train

    with joined() as ranks:
        ranks.once(lambda: lay_out(settings.parallel, settings.model, settings.train, ranks.world))
        own = tokenizer or start or out / "tokenizer"
        ranks.once(lambda: _tokenise(documents, settings, own, out))
        words = Tokenizer.load(own)
        counts = count_parameters(settings.model)
        if ranks.first:
            say(f"{counts.total:,} parameters, {counts.active:,} active on a token")
        if preflight:
            _preflight(settings, ranks.device)
        job = documents_job(
            settings.model, settings.train, settings.data.weights, words, out / "shards", settings.data.stages,
            parallel=settings.parallel, start=start, system=settings,
        )  # fmt: skip
        with quiet_progress("train", shown=ranks.first) as report:
            model = train(job, out, report, ranks, say)
        if not ranks.first:
            return
        if json:
            print_json({"model": str(model), "parameters": counts.total, "active": counts.active})
        else:
            console.print(f"Model: {model}", soft_wrap=True)


def _of_folder(settings: System, folder: Path, changes: list[str]) -> System:
    """The system with the shape of a folder's network, but for what `--set model.key=value` changes of it."""
    from troth.model.families.configs import read_config

    changed = {".".join(change.partition("=")[0].strip().split(".")[:2]) for change in changes}
    kept = {key: value for key, value in settings.model.model_dump().items() if f"model.{key}" in changed}
    shape = read_config(folder)
    return settings.model_copy(update={"model": type(shape).model_validate(shape.model_dump() | kept)})


def _tokenise(documents: list[str], settings: System, own: Path, out: Path) -> None:
    """Token shards of the documents, and a tokenizer where there is none; what is there already is kept.

    Raises ValueError where the tokenizer has more tokens than the network.
    """
    from troth.cli.output import say
    from troth.model.tokenizer import Tokenizer
    from troth.train.documents import read_documents
    from troth.train.mixture import sample
    from troth.train.shards import write_shards

    if own == out / "tokenizer" and not (own / "tokenizer_config.json").exists():
        own.mkdir(parents=True, exist_ok=True)
        texts = sample(((name, text) for name, text, _ in read_documents(documents)), settings.data.weights)
        Tokenizer.train(texts, settings.model.vocab_size).save(own)
    words, room = Tokenizer.load(own), settings.model.vocab_size
    if words.vocab_size > room:
        raise ValueError(f"{own}: {words.vocab_size} tokens do not fit model.vocab_size={room}")
    if not (out / "shards" / "shards.json").exists():
        sizes = write_shards(read_documents(documents), words, out / "shards")
        say(", ".join(f"{name} {size:,} tokens" for name, size in sizes.items()))


def _preflight(settings: System, device: str) -> None:
    import torch

    from troth.cli.output import console, say
    from troth.train.health.preflight import run_preflight
    from troth.train.precision import choose_precision

    found = run_preflight(choose_precision(settings.train.precision, device), torch.device(device))
    if found is not None:
        console.print(found.table())
        for warning in found.warnings():
            say(warning)
