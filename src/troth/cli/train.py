"""`troth train`: documents, chats or preferences in, a Hugging Face folder out; alone, or on all ranks that torchrun,
Slurm or Ray start."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from troth.cli.dry_run import show_dry_run
from troth.cli.options import AsJson, Changes, SystemName, read_system
from troth.cli.output import console, say, show_result, training_progress

if TYPE_CHECKING:
    from troth.model.tokenizer import Tokenizer
    from troth.system import System
    from troth.train.job import Job
    from troth.train.parallel.ranks import Ranks

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
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="Folder with a tokenizer.json (default: train one).", metavar="DIR"),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Go on from a model: its shape, weights and tokenizer.", metavar="FOLDER"),
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
    if dry_run:
        show_dry_run(settings, world, as_json)
        return
    if not documents or out is None:
        raise ValueError("train: documents and --out DIR are needed, but for a --dry-run")
    for source in documents:
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
    from troth.train.parallel.ranks import joined
    from troth.train.trainer import train

    with joined() as ranks, ExitStack() as stack:
        ranks.once(lambda: lay_out(settings.parallel, settings.model, settings.train, ranks.world))
        tokenizer_folder = tokenizer or start or out / "tokenizer"
        if not shards_only:
            ranks.once(lambda: _check(settings, tokenizer_folder, start))
        ranks.once(lambda: stack.enter_context(held(out, "training")))
        if settings.train.objective == "documents":
            shards = ranks.once(lambda: _shards(documents, settings, tokenizer_folder, out))
            if shards_only:
                if ranks.first:
                    show_result({"shards": shards}, f"Shards: {shards}", as_json)
                return
            job = _documents(settings, tokenizer_folder, out, start, shards, ranks.first)
        else:
            job = _tuning(documents, settings, tokenizer_folder, out, start, ranks)
        counts = count_parameters(settings.model)
        if ranks.first:
            say(f"{counts.total:,} parameters, {counts.active:,} active on a token")
            if start is not None and (noise := unheeded_noise(start)):
                say(f"{start / 'config.json'}: trained without {' and '.join(noise)}, which Troth does not know")
        if preflight:
            _preflight(settings, ranks.device)
        with training_progress("train", shown=ranks.first) as report:
            model = train(job, out, report, ranks, say)
        if ranks.first:
            sizes = {"parameters": counts.total, "active": counts.active}
            show_result({"model": str(model)} | sizes, f"Model: {model}", as_json)


def _check(settings: System, tokenizer_folder: Path, start: Path | None) -> None:
    """Raises ValueError for what would end a run once its documents, which may take hours, are tokens."""
    from troth.model.tokenizer import Tokenizer
    from troth.system.storage import filesystem
    from troth.train.job import check_length
    from troth.train.parallel.start import checked

    if (tokenizer_folder / "tokenizer.json").exists():
        _fits(Tokenizer.load(tokenizer_folder), tokenizer_folder, settings)
    check_length(settings.model, settings.train)
    if settings.train.checkpoints is not None:
        filesystem(settings.train.checkpoints)
    if start is not None:
        checked(start, settings.model)


def _of_folder(settings: System, folder: Path, changes: list[str]) -> System:
    """The system with the shape of a folder's network, but for what `--set model.key=value` changes of it."""
    from troth.model.families.configs import read_config

    changed = {".".join(change.partition("=")[0].strip().split(".")[:2]) for change in changes}
    kept = {key: value for key, value in settings.model.model_dump().items() if f"model.{key}" in changed}
    shape = read_config(folder)
    return settings.model_copy(update={"model": type(shape).model_validate(shape.model_dump() | kept)})


def _shards(documents: list[str], settings: System, tokenizer_folder: Path, out: Path) -> str:
    """The folder or URL of token shards: what was named, or those of the documents, with a tokenizer where there is
    none. What is there already is kept.

    Raises ValueError where the tokenizer has more tokens than the network.
    """
    from troth.model.tokenizer import Tokenizer
    from troth.train.documents import read_documents
    from troth.train.mixture import sample
    from troth.train.ready_shards import bring_tokenizer, find_shards
    from troth.train.shards import open_shards, write_shards

    if ready := find_shards(documents):
        _fits(bring_tokenizer(ready, tokenizer_folder), tokenizer_folder, settings)
        return ready
    if tokenizer_folder == out / "tokenizer" and not (tokenizer_folder / "tokenizer.json").exists():
        tokenizer_folder.mkdir(parents=True, exist_ok=True)
        texts = sample(((name, text) for name, text, _ in read_documents(documents)), settings.data.weights)
        Tokenizer.train(texts, settings.model.vocab_size).save(tokenizer_folder)
    shards = out / "shards"
    if kept := find_shards([str(shards)]):
        _fits(bring_tokenizer(kept, tokenizer_folder), tokenizer_folder, settings)
        sizes = {name: collection.size for name, collection in open_shards(shards).items()}
    else:
        tokenizer = Tokenizer.load(tokenizer_folder)
        _fits(tokenizer, tokenizer_folder, settings)
        sizes = write_shards(read_documents(documents), tokenizer, shards)
    told = f"{shards} is kept, whatever documents are named: " if kept else ""
    say(told + ", ".join(f"{name} {size:,} tokens" for name, size in sizes.items()))
    return str(shards)


def _documents(
    settings: System, tokenizer_folder: Path, out: Path, start: Path | None, shards: str, first: bool
) -> Job:
    """Training on documents; the `first` rank says which of them are left out."""
    from troth.model.tokenizer import CHAT_TEMPLATE, Tokenizer, read_chat_template
    from troth.train.job import documents_job
    from troth.train.mixture import shares

    data = settings.data
    # Documents teach no turns: a model that knows some keeps its template.
    template = CHAT_TEMPLATE if start is None else read_chat_template(start)[0]
    cache = out / "cache" if data.shard_cache is None else Path(data.shard_cache)
    job = documents_job(
        settings.model, settings.train, data.weights, Tokenizer.load(tokenizer_folder), shards, data.stages, cache,
        data.shard_cache_bytes, parallel=settings.parallel, start=start, system=settings, chat_template=template,
    )  # fmt: skip
    sizes, mixtures = job.data["tokens"], (data.weights, *(stage.weights for stage in data.stages))
    if first:
        if unread := sizes.keys() - set().union(*(shares(sizes, weights) for weights in mixtures)):
            say(f"not read, for data.weights give them none: {', '.join(sorted(unread))}")
        # Where no weight names any collection they are another corpus's, such as a named system's own.
        if absent := {name for own in mixtures if own.keys() & sizes.keys() for name in own} - sizes.keys():
            say(f"data.weights of what there is not: {', '.join(sorted(absent))}; there is {', '.join(sizes)}")
    return job


def _tuning(
    files: list[str], settings: System, tokenizer_folder: Path, out: Path, start: Path | None, ranks: Ranks
) -> Job:
    """Fine-tuning on chats or preferences, which the first rank tokenises; what is there already is kept."""
    from troth.model.chat_template import ChatTemplate
    from troth.model.tokenizer import Tokenizer
    from troth.train.chats import Chats
    from troth.train.examples import kept_examples, made_by, tokenise_chats, tokenise_preferences
    from troth.train.preference import Preferences
    from troth.train.tuning import chats_job, preferences_job

    train = settings.train
    if start is None:
        raise ValueError(f"train.objective={train.objective!r}: a model is tuned; name its folder (--from)")
    tokenizer = Tokenizer.load(tokenizer_folder)
    template = ChatTemplate.for_tuning(start, tokenizer)

    def tokenise() -> None:
        _fits(tokenizer, tokenizer_folder, settings)
        examples, last = out / "examples", train.answers == "last"
        counts = kept_examples(examples, made_by(train.objective, template, tokenizer, last))
        told = "" if counts is None else f"{examples} is kept, whatever files are named: "
        if counts is None and train.objective == "chat":
            counts = tokenise_chats(files, template, tokenizer, examples, last)
        elif counts is None:
            counts = tokenise_preferences(files, template, tokenizer, examples)
        say(told + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))

    ranks.once(tokenise)
    of = chats_job if train.objective == "chat" else preferences_job
    job = of(
        settings.model, train, tokenizer, out / "examples", start, template, parallel=settings.parallel, system=settings
    )  # fmt: skip
    assert isinstance(job.rows, Chats | Preferences)
    if ranks.first and job.rows.cut:
        what = "chats" if train.objective == "chat" else "pairs"
        lost = f", and {job.rows.lost:,} of these left out: no answer begins before" if job.rows.lost else ""
        say(f"{job.rows.cut:,} {what} cut at train.sequence_length={train.sequence_length}{lost}")
    return job


def _fits(tokenizer: Tokenizer, tokenizer_folder: Path, settings: System) -> None:
    """Raises ValueError where the tokenizer has more tokens than the network, or none for blanks that are wanted."""
    from troth.train.blanks import check_marks

    if settings.train.fill_in_middle and settings.train.objective == "documents":
        check_marks(tokenizer)
    if tokenizer.vocab_size > (room := settings.model.vocab_size):
        raise ValueError(f"{tokenizer_folder}: {tokenizer.vocab_size} tokens do not fit model.vocab_size={room}")


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
