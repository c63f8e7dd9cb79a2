"""`troth train`: documents, chats or preferences in, a Hugging Face folder out; alone, or on all ranks that torchrun,
Slurm or Ray start."""

from __future__ import annotations

import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from troth.cli.dry_run import show_dry_run
from troth.cli.options import AsJson, Changes, SystemName, read_system
from troth.cli.output import console, say, show_result, training_progress
from troth.cli.train_data import Asked, bring_tokenizer_of, documents_job, fits, tuning_job, write_all_shards

if TYPE_CHECKING:
    from troth.model.config import ModelConfig
    from troth.system import System

_NUMBER = re.compile(r"[0-9]*\.?[0-9]+")
_URL = re.compile(r"[a-z0-9+]{2,}:/")
"""How a URL begins once it has become a path."""


def command(
    documents: Annotated[
        list[str] | None,
        typer.Argument(
            help="Parquet, JSON lines or Lance, files, folders or URLs, with the columns text and, optionally, "
            "collection and weight, or of chats (messages) or preferences (chosen, rejected); or token shards."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder: checkpoints, metrics, model.", metavar="DIR")
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            "--held-out", help="What only to look at, in the form of the documents, or a share of these such as 0.01: "
            "its loss is reported every train.eval_every steps. May be given again.", metavar="SOURCE",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="Folder with a tokenizer.json (default: train one).", metavar="DIR"),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Go on from a model: its shape, weights and tokenizer.", metavar="FOLDER"),
    ] = None,
    branch: Annotated[
        str | None,
        typer.Option(
            "--branch", help="Go on from another run's newest checkpoint, or that of a step: its network, optimisers "
            "and tokenizer, with the settings and documents named now.", metavar="RUN[@STEP]",
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective", help="documents, chat (answers of the assistant) or preference (DPO): train.objective.",
            metavar="NAME",
        ),
    ] = None,
    shards_only: Annotated[
        bool, typer.Option("--shards-only", help="Write the documents' token shards to DIR/shards, and end.")
    ] = False,
    preflight: Annotated[
        bool, typer.Option("--preflight", help="Measure each rank first, and name the slow ones.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Take one step without numbers or GPUs, and say what it takes of each.")
    ] = False,
    world: Annotated[int, typer.Option("--world", help="GPUs of a dry run.", min=1)] = 1,
    system: SystemName = "nano",
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Train the system's network on documents, or fine-tune a model on chats or preferences.

    Run the same command again to continue an interrupted run.

    On many ranks, laid out by the system's table `parallel`: torchrun --nproc-per-node 8 --no-python troth train ...
    """
    changes = [*(changes or []), *([] if objective is None else [f"train.objective={objective}"])]
    settings = read_system(system, changes)
    if start is not None:
        settings = _of_folder(settings, start, changes)
    of_run, of_step = _run_and_step(branch)
    if of_run is not None:
        settings = _of_run(settings, of_run, changes)
    if dry_run:
        show_dry_run(settings, world, as_json)
        return
    if not documents or out is None:
        raise ValueError("train: documents and --out DIR are needed, but for a --dry-run")
    looked_at = _share_or_sources(held_out or [])
    for source in [*documents, *([] if isinstance(looked_at, float) else looked_at)]:
        if (Path(source) / "ledger").is_dir() and (inside := Path(source) / "documents").is_dir():
            raise ValueError(f"{source}: is a curation as a whole; {inside} is what to train on")
    if _URL.match(str(out)):
        raise ValueError(f"--out {out}: a run folder is on a disk; checkpoints may go to a URL (train.checkpoints)")
    if shards_only and settings.train.objective != "documents":
        raise ValueError(f"--shards-only: documents become shards; train.objective is {settings.train.objective!r}")
    from troth.model.counts import count_parameters
    from troth.model.families.configs import unheeded_noise
    from troth.system import lay_out
    from troth.system.lock import held
    from troth.train.branch import Branch
    from troth.train.parallel.ranks import joined
    from troth.train.trainer import train

    with joined() as ranks, ExitStack() as stack:
        ranks.once(lambda: lay_out(settings.parallel, settings.model, settings.train, ranks.world))
        tokenizer_folder = tokenizer or start or out / "tokenizer"
        begins = None if of_run is None else ranks.once(partial(Branch.of, of_run, of_step, out, start))
        asked = Asked(settings, documents, looked_at, tokenizer_folder, out, start, begins)
        if not shards_only:
            ranks.once(lambda: _check(settings, tokenizer_folder, start))
        ranks.once(lambda: stack.enter_context(held(out, "training")))
        if of_run is not None and tokenizer_folder == out / "tokenizer":
            ranks.once(partial(bring_tokenizer_of, of_run, tokenizer_folder))
        if settings.train.objective == "documents":
            shards, held_out_shards = ranks.once(lambda: write_all_shards(asked))
            if shards_only:
                if ranks.first:
                    more = {} if held_out_shards is None else {"held_out": held_out_shards}
                    show_result({"shards": shards} | more, "Shards: " + ", ".join((shards, *more.values())), as_json)
                return
            job = documents_job(asked, shards, held_out_shards, ranks.first)
        else:
            job = tuning_job(asked, ranks)
        counts = count_parameters(settings.model)
        if ranks.first:
            say(f"{counts.total:,} parameters, {counts.active:,} active on a token")
            if begins is not None:
                say(f"{of_run}: goes on here after its step {begins.step}, {begins.tokens:,} tokens")
            if start is not None and (noise := unheeded_noise(start)):
                say(f"{start / 'config.json'}: trained without {' and '.join(noise)}, which Troth does not know")
        if preflight:
            _preflight(settings, ranks.device)
        with training_progress("train", shown=ranks.first) as report:
            model = train(job, out, report, ranks, say)
        if ranks.first:
            sizes = {"parameters": counts.total, "active": counts.active}
            show_result({"model": str(model)} | sizes, f"Model: {model}", as_json)


def _share_or_sources(held_out: list[str]) -> list[str] | float:
    """Raises ValueError where a share is none, or stands beside sources."""
    shares = [float(one) for one in held_out if _NUMBER.fullmatch(one) and not Path(one).exists()]
    if not shares:
        return held_out
    if len(held_out) > 1 or not 0 < shares[0] < 1:
        raise ValueError(f"--held-out {' '.join(held_out)}: expected sources, or one share above 0 and below 1")
    return shares[0]


def _check(settings: System, tokenizer_folder: Path, start: Path | None) -> None:
    """Raises ValueError for what would end a run once its documents, which may take hours, are tokens."""
    from troth.model.tokenizer import Tokenizer
    from troth.system.storage import filesystem
    from troth.train.job import check_length
    from troth.train.parallel.start import checked

    if (tokenizer_folder / "tokenizer.json").exists():
        fits(Tokenizer.load(tokenizer_folder), tokenizer_folder, settings)
    check_length(settings.model, settings.train)
    if settings.train.checkpoints is not None:
        filesystem(settings.train.checkpoints)
    if start is not None:
        checked(start, settings.model)


def _run_and_step(branch: str | None) -> tuple[Path | None, int | None]:
    """Raises ValueError where `branch` names no run's folder."""
    if branch is None:
        return None, None
    run, at, step = branch.rpartition("@")
    if not at or not step.isdecimal():
        run, step = branch, ""
    if not (Path(run) / "run.json").is_file():
        raise ValueError(f"--branch {branch}: {run} is no run's folder (no run.json); expected RUN or RUN@STEP")
    return Path(run), int(step) if step else None


def _of_run(settings: System, run: Path, changes: list[str]) -> System:
    """The system with the network of a run."""
    from troth.train.run import read_record, recorded_settings

    return _of_shape(settings, recorded_settings(run, read_record(run / "run.json"))[0], changes)


def _of_folder(settings: System, folder: Path, changes: list[str]) -> System:
    """The system with the network of a folder."""
    from troth.model.families.configs import read_config

    return _of_shape(settings, read_config(folder), changes)


def _of_shape(settings: System, shape: ModelConfig, changes: list[str]) -> System:
    """The system with that shape, but for what `--set model.key=value` changes of it."""
    changed = {".".join(change.partition("=")[0].strip().split(".")[:2]) for change in changes}
    kept = {key: value for key, value in settings.model.model_dump().items() if f"model.{key}" in changed}
    return settings.model_copy(update={"model": type(shape).model_validate(shape.model_dump() | kept)})


def _preflight(settings: System, device: str) -> None:
    import torch

    from troth.train.health.preflight import run_preflight
    from troth.train.precision import DTYPES, choose_precision

    dtype = DTYPES[choose_precision(settings.train.precision, device)]
    found = run_preflight(dtype, torch.device(device))
    if found is not None:
        console.print(found.table())
        for warning in found.warnings():
            say(warning)
