"""What `troth train` learns and what it is only looked at by: documents as token shards, or chats and preferences as
tokenised examples, and the job over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from troth.cli.output import say

if TYPE_CHECKING:
    from troth.model.tokenizer import Tokenizer
    from troth.system import System
    from troth.train.branch import Branch
    from troth.train.job import Job
    from troth.train.parallel.ranks import Ranks
    from troth.train.sources import Wanted


@dataclass(frozen=True)
class Asked:
    """What the command names."""

    settings: System
    documents: list[str]
    held_out: list[str] | float
    """Sources, or a share of the documents."""
    tokenizer_folder: Path
    out: Path
    start: Path | None
    branch: Branch | None


@dataclass(frozen=True)
class _Part:
    """The `wanted` rows of sources, and the folder that their tokens go to."""

    sources: list[str]
    folder: Path
    wanted: Wanted
    told: str = ""


def _parts(asked: Asked, name: str) -> tuple[_Part, _Part | None]:
    """What is learned, whose folder has this `name`, and what is held out. Raises ValueError where a share is to be
    held out of what is tokens already."""
    from troth.train.ready_shards import find_shards
    from troth.train.sources import every_row
    from troth.train.split import Split

    learned, held_out = asked.out / name, asked.out / "held_out"
    if not isinstance(asked.held_out, float):
        held = _Part(asked.held_out, held_out, every_row, "held out: ") if asked.held_out else None
        return _Part(asked.documents, learned, every_row), held
    if ready := find_shards(asked.documents):
        raise ValueError(
            f"--held-out {asked.held_out:g}: {ready} holds token shards, which are not parted; name others, or write "
            "both with --shards-only and the same --held-out"
        )
    if (learned / f"{name}.json").exists() and not (held_out / f"{name}.json").exists():
        told = f"{learned} was written whole; delete it, or name another --out"
        raise ValueError(f"--held-out {asked.held_out:g}: {told}")
    sides = [Split(asked.held_out, held) for held in (False, True)]
    return _Part(asked.documents, learned, sides[0]), _Part(asked.documents, held_out, sides[1], "held out: ")


def bring_tokenizer_of(run: Path, folder: Path) -> None:
    """Copy a run's tokenizer into the folder, if it is not there yet. Raises ValueError where the run has none."""
    from troth.model.tokenizer import Tokenizer

    if (folder / "tokenizer.json").exists():
        return
    theirs = [own for own in (run / "tokenizer", run / "model") if (own / "tokenizer.json").exists()]
    if not theirs:
        raise ValueError(f"--branch {run}: its tokenizer is elsewhere; name its folder (--tokenizer or --from)")
    folder.mkdir(parents=True, exist_ok=True)
    Tokenizer.load(theirs[0]).save(folder)


def write_all_shards(asked: Asked) -> tuple[str, str | None]:
    """The folders or URLs of token shards of the documents and of what is held out: those that were named, or those of
    what was, with a tokenizer where there is none. What is there already is kept.

    Raises ValueError where the tokenizer has more tokens than the network.
    """
    from troth.model.tokenizer import Tokenizer
    from troth.train.documents import read_documents
    from troth.train.mixture import sample
    from troth.train.ready_shards import find_shards

    learned, held_out = _parts(asked, "shards")
    folder = asked.tokenizer_folder
    own = folder == asked.out / "tokenizer" and not (folder / "tokenizer.json").exists()
    if own and not find_shards(asked.documents):
        folder.mkdir(parents=True, exist_ok=True)
        texts = ((name, text) for name, text, _ in read_documents(learned.sources, learned.wanted))
        model, data = asked.settings.model, asked.settings.data
        Tokenizer.train(sample(texts, data.weights), model.vocab_size).save(folder)
    # First what is held out: where that is missing, what is learned was written whole.
    held_out_shards = None if held_out is None else _shards(asked, held_out)
    return _shards(asked, learned), held_out_shards


def _shards(asked: Asked, part: _Part) -> str:
    """The folder or URL of documents' token shards, which are written into the part's folder if need be."""
    from troth.model.tokenizer import Tokenizer
    from troth.train.documents import read_documents
    from troth.train.ready_shards import bring_tokenizer, find_shards
    from troth.train.shards import open_shards, write_shards

    folder, shards = asked.tokenizer_folder, part.folder
    if ready := find_shards(part.sources):
        fits(bring_tokenizer(ready, folder), folder, asked.settings)
        return ready
    if kept := find_shards([str(shards)]):
        fits(bring_tokenizer(kept, folder), folder, asked.settings)
        sizes = {name: collection.size for name, collection in open_shards(shards).items()}
    else:
        tokenizer = Tokenizer.load(folder)
        fits(tokenizer, folder, asked.settings)
        sizes = write_shards(read_documents(part.sources, part.wanted), tokenizer, shards)
    told = f"{shards} is kept, whatever documents are named: " if kept else part.told
    say(told + ", ".join(f"{name} {size:,} tokens" for name, size in sizes.items()))
    return str(shards)


def documents_job(asked: Asked, shards: str, held_out: str | None, first: bool) -> Job:
    """Training on documents; the `first` rank says which of them are left out."""
    from troth.model.tokenizer import CHAT_TEMPLATE, Tokenizer, read_chat_template
    from troth.train import job as jobs
    from troth.train.mixture import shares

    settings, start = asked.settings, asked.start
    data = settings.data
    # Documents teach no turns: a model that knows some keeps its template.
    template = CHAT_TEMPLATE if start is None else read_chat_template(start)[0]
    cache = asked.out / "cache" if data.shard_cache is None else Path(data.shard_cache)
    job = jobs.documents_job(
        settings.model, settings.train, data.weights, Tokenizer.load(asked.tokenizer_folder), shards, data.stages,
        cache, data.shard_cache_bytes, held_out, parallel=settings.parallel, start=start, system=settings,
        chat_template=template, branch=asked.branch,
    )  # fmt: skip
    sizes, mixtures = job.data["tokens"], (data.weights, *(stage.weights for stage in data.stages))
    if first:
        if unread := sizes.keys() - set().union(*(shares(sizes, weights) for weights in mixtures)):
            say(f"not read, for data.weights give them none: {', '.join(sorted(unread))}")
        # Where no weight names any collection they are another corpus's, such as a named system's own.
        if absent := {name for own in mixtures if own.keys() & sizes.keys() for name in own} - sizes.keys():
            say(f"data.weights of what there is not: {', '.join(sorted(absent))}; there is {', '.join(sizes)}")
    return job


def tuning_job(asked: Asked, ranks: Ranks) -> Job:
    """Fine-tuning on chats or preferences, which the first rank tokenises; what is there already is kept."""
    from troth.model.chat_template import ChatTemplate
    from troth.model.tokenizer import Tokenizer
    from troth.train.chats import Chats
    from troth.train.examples import kept_examples, made_by, tokenise_chats, tokenise_preferences
    from troth.train.preference import Preferences
    from troth.train.tuning import chats_job, preferences_job

    settings, train, start = asked.settings, asked.settings.train, asked.start
    if start is None:
        raise ValueError(f"train.objective={train.objective!r}: a model is tuned; name its folder (--from)")
    tokenizer = Tokenizer.load(asked.tokenizer_folder)
    template = ChatTemplate.for_tuning(start, tokenizer)
    learned, held_out = ranks.once(lambda: _parts(asked, "examples"))

    def tokenise(part: _Part) -> None:
        last, folder = train.answers == "last", part.folder
        counts = kept_examples(folder, made_by(train.objective, template, tokenizer, last))
        told = part.told if counts is None else f"{folder} is kept, whatever files are named: "
        if counts is None and train.objective == "chat":
            counts = tokenise_chats(part.sources, template, tokenizer, folder, last, part.wanted)
        elif counts is None:
            counts = tokenise_preferences(part.sources, template, tokenizer, folder, part.wanted)
        say(told + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))

    def tokenise_all() -> None:
        fits(tokenizer, asked.tokenizer_folder, settings)
        if held_out is not None:
            tokenise(held_out)
        tokenise(learned)

    ranks.once(tokenise_all)
    of = chats_job if train.objective == "chat" else preferences_job
    job = of(
        settings.model, train, tokenizer, learned.folder, start, template,
        None if held_out is None else held_out.folder, parallel=settings.parallel, system=settings, branch=asked.branch,
    )  # fmt: skip
    assert isinstance(job.rows, Chats | Preferences)
    if ranks.first and job.rows.cut:
        what = "chats" if train.objective == "chat" else "pairs"
        lost = f", and {job.rows.lost:,} of these left out: no answer begins before" if job.rows.lost else ""
        say(f"{job.rows.cut:,} {what} cut at train.sequence_length={train.sequence_length}{lost}")
    return job


def fits(tokenizer: Tokenizer, tokenizer_folder: Path, settings: System) -> None:
    """Raises ValueError where the tokenizer has more tokens than the network, or none for blanks that are wanted."""
    from troth.train.blanks import check_marks

    if settings.train.fill_in_middle and settings.train.objective == "documents":
        check_marks(tokenizer)
    if tokenizer.vocab_size > (room := settings.model.vocab_size):
        raise ValueError(f"{tokenizer_folder}: {tokenizer.vocab_size} tokens do not fit model.vocab_size={room}")
