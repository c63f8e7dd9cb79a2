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
    from troth.train.job import Job
    from troth.train.parallel.ranks import Ranks


@dataclass(frozen=True)
class Asked:
    """What the command names."""

    settings: System
    documents: list[str]
    held_out: list[str]
    tokenizer_folder: Path
    out: Path
    start: Path | None


def write_all_shards(asked: Asked) -> tuple[str, str | None]:
    """The folders or URLs of token shards of the documents and of what is held out: those that were named, or those of
    what was, with a tokenizer where there is none. What is there already is kept.

    Raises ValueError where the tokenizer has more tokens than the network.
    """
    from troth.model.tokenizer import Tokenizer
    from troth.train.documents import read_documents
    from troth.train.mixture import sample
    from troth.train.ready_shards import find_shards

    folder = asked.tokenizer_folder
    own = folder == asked.out / "tokenizer" and not (folder / "tokenizer.json").exists()
    if own and not find_shards(asked.documents):
        folder.mkdir(parents=True, exist_ok=True)
        texts = ((name, text) for name, text, _ in read_documents(asked.documents))
        model, data = asked.settings.model, asked.settings.data
        Tokenizer.train(sample(texts, data.weights), model.vocab_size).save(folder)
    shards = _shards(asked, asked.documents, asked.out / "shards")
    return shards, _shards(asked, asked.held_out, asked.out / "held_out") if asked.held_out else None


def _shards(asked: Asked, documents: list[str], shards: Path) -> str:
    """The folder or URL of documents' token shards, which are written into the folder `shards` if need be."""
    from troth.model.tokenizer import Tokenizer
    from troth.train.documents import read_documents
    from troth.train.ready_shards import bring_tokenizer, find_shards
    from troth.train.shards import open_shards, write_shards

    folder = asked.tokenizer_folder
    if ready := find_shards(documents):
        fits(bring_tokenizer(ready, folder), folder, asked.settings)
        return ready
    if kept := find_shards([str(shards)]):
        fits(bring_tokenizer(kept, folder), folder, asked.settings)
        sizes = {name: collection.size for name, collection in open_shards(shards).items()}
    else:
        tokenizer = Tokenizer.load(folder)
        fits(tokenizer, folder, asked.settings)
        sizes = write_shards(read_documents(documents), tokenizer, shards)
    told = "held out: " if documents is asked.held_out else ""
    told = f"{shards} is kept, whatever documents are named: " if kept else told
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
        chat_template=template,
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
    examples = asked.out / "examples"
    held_out = asked.out / "held_out" if asked.held_out else None

    def tokenise(files: list[str], folder: Path, told: str = "") -> None:
        last = train.answers == "last"
        counts = kept_examples(folder, made_by(train.objective, template, tokenizer, last))
        told = told if counts is None else f"{folder} is kept, whatever files are named: "
        if counts is None and train.objective == "chat":
            counts = tokenise_chats(files, template, tokenizer, folder, last)
        elif counts is None:
            counts = tokenise_preferences(files, template, tokenizer, folder)
        say(told + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))

    def tokenise_all() -> None:
        fits(tokenizer, asked.tokenizer_folder, settings)
        tokenise(asked.documents, examples)
        if held_out is not None:
            tokenise(asked.held_out, held_out, "held out: ")

    ranks.once(tokenise_all)
    of = chats_job if train.objective == "chat" else preferences_job
    job = of(
        settings.model, train, tokenizer, examples, start, template, held_out, parallel=settings.parallel,
        system=settings,
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
