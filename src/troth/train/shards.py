"""Documents as memory-mapped token shards: per collection one file of tokens and one of document ends."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from troth.model.tokenizer import Tokenizer

_BATCH = 512


def write_shards(documents: Iterable[tuple[str, str]], tokenizer: Tokenizer, folder: Path) -> dict[str, int]:
    """Tokenise (collection, text) pairs into `folder` and return the tokens of each collection.

    Every document begins with the end-of-text token, so that the first real token has something to follow.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    texts: dict[str, list[str]] = {}
    for collection, text in documents:
        texts.setdefault(collection, []).append(text)
    sizes = {}
    for collection, members in sorted(texts.items()):
        ends, total = [], 0
        with (folder / f"{collection}.tokens").open("wb") as file:
            for start in range(0, len(members), _BATCH):
                for ids in tokenizer.encode_batch(members[start : start + _BATCH]):
                    np.array([tokenizer.end_of_text, *ids], dtype=dtype).tofile(file)
                    total += len(ids) + 1
                    ends.append(total)
        np.array(ends, dtype=np.int64).tofile(folder / f"{collection}.ends")
        sizes[collection] = total
    (folder / "shards.json").write_text(json.dumps({"dtype": np.dtype(dtype).name, "tokens": sizes}))
    return sizes


class Shard:
    """One collection: `tokens[ends[i-1]:ends[i]]` is its i-th document. Nothing is read before it is asked for."""

    def __init__(self, folder: Path, collection: str, dtype: str):
        self.tokens = np.memmap(folder / f"{collection}.tokens", dtype=dtype, mode="r")
        self.ends = np.fromfile(folder / f"{collection}.ends", dtype=np.int64)
        self.starts = np.concatenate(([0], self.ends[:-1]))


def open_shards(folder: Path) -> dict[str, Shard]:
    """The shards of a folder by collection. Raises ValueError where `write_shards` did not finish there."""
    try:
        index = json.loads((folder / "shards.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder}: no token shards ({error})") from error
    return {collection: Shard(folder, collection, index["dtype"]) for collection in index["tokens"]}
