"""Token shards that are there already, here or at an fsspec URL, and the tokenizer that they were written with."""

from collections.abc import Sequence
from pathlib import Path

from troth.model.tokenizer import Tokenizer, tokenizer_json
from troth.system.storage import filesystem

INDEX, TOKENIZER = "shards.json", "tokenizer.json"


def find_shards(sources: Sequence[str]) -> str | None:
    """The folder or URL of token shards among sources, None where these are documents.

    Raises ValueError naming it where it does not stand alone: what a run reads is one folder of shards or documents.
    """
    found = [source for source in sources if _has(source, INDEX)]
    if found and len(sources) > 1:
        raise ValueError(f"{found[0]}: holds token shards, which a run reads alone; leave out the other sources")
    return found[0] if found else None


def keep_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write it beside the shards that it made."""
    (folder / TOKENIZER).write_text(tokenizer_json(tokenizer), encoding="utf-8")


def bring_tokenizer(shards: str, own: Path) -> Tokenizer:
    """The tokenizer in the folder `own`, which comes from the shards where there is none yet.

    Raises ValueError where neither has one, or where the shards were written with another.
    """
    theirs = _read(shards, TOKENIZER).decode() if _has(shards, TOKENIZER) else None
    if not (own / TOKENIZER).exists():
        if theirs is None:
            raise ValueError(f"{shards}: has no {TOKENIZER}; name the folder of the one it was written with")
        own.mkdir(parents=True, exist_ok=True)
        Tokenizer.of_files({TOKENIZER: theirs}, f"{shards}/{TOKENIZER}").save(own)
    words = Tokenizer.load(own)
    # Which token ends a text may stand in a file beside, which shards do not have.
    wrote = theirs and Tokenizer.of_files(words.files | {TOKENIZER: theirs}, f"{shards}/{TOKENIZER}")
    # A model that was tuned on chats has further special tokens, behind those that the shards know.
    if wrote and (wrote.ranks != words.ranks or not wrote.special.items() <= words.special.items()):
        raise ValueError(f"{shards}: was written with another tokenizer than {own}")
    return words


def _has(folder: str, name: str) -> bool:
    try:
        fs, path = filesystem(folder)
        return bool(fs.exists(f"{path.rstrip('/')}/{name}"))
    except Exception:  # Every file system has errors of its own; whoever reads the folder names it.
        return False


def _read(folder: str, name: str) -> bytes:
    try:
        fs, path = filesystem(folder)
        with fs.open(f"{path.rstrip('/')}/{name}") as file:
            data: bytes = file.read()
    except Exception as error:  # Every file system has errors of its own.
        raise ValueError(f"{folder}: its {name} cannot be read ({error!r})") from error
    return data
