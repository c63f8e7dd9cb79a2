"""Documents as memory-mapped token shards: of each collection its tokens, where documents end, and their repeats."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from troth.model.tokenizer import Tokenizer

_BATCH = 512
_PARTS = 4
"""A document's weight counts in quarters."""


def write_shards(
    documents: Iterable[tuple[str, str] | tuple[str, str, float]], tokenizer: Tokenizer, folder: Path
) -> dict[str, int]:
    """Tokenise (collection, text, weight) into `folder` and return the tokens of each collection.

    The weight, 1 where there is none, says how often a document is read next to the others of its collection. Every
    document begins with the end-of-text token, so that the first real token has something to follow.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    texts: dict[str, list[str]] = {}
    weights: dict[str, list[float]] = {}
    for collection, text, *weight in documents:
        texts.setdefault(collection, []).append(text)
        weights.setdefault(collection, []).append(weight[0] if weight else 1.0)
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
        _repeats(weights[collection]).tofile(folder / f"{collection}.repeats")
        sizes[collection] = total
    (folder / "shards.json").write_text(json.dumps({"dtype": np.dtype(dtype).name, "tokens": sizes}))
    return sizes


def _repeats(weights: list[float]) -> np.ndarray:
    """How often an epoch reads each document: the smallest whole numbers in proportion to the weights."""
    parts = np.maximum(1, np.rint(np.array(weights) * _PARTS)).astype(np.int64)
    return parts // np.gcd.reduce(parts)


class Shard:
    """One collection: an epoch reads the documents `tokens[starts[i]:ends[i]]`, one of more weight several times, in
    all `epoch_tokens`. Nothing is read before it is asked for."""

    def __init__(self, folder: Path, collection: str, dtype: str):
        self.tokens = np.memmap(folder / f"{collection}.tokens", dtype=dtype, mode="r")
        ends = np.fromfile(folder / f"{collection}.ends", dtype=np.int64)
        repeats = np.fromfile(folder / f"{collection}.repeats", dtype=np.int64)
        self.ends = np.repeat(ends, repeats)
        self.starts = np.repeat(np.concatenate(([0], ends[:-1])), repeats)
        self.epoch_tokens = int((self.ends - self.starts).sum())


def open_shards(folder: Path) -> dict[str, Shard]:
    """The shards of a folder by collection. Raises ValueError where `write_shards` did not finish there."""
    try:
        index = json.loads((folder / "shards.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder}: no token shards ({error})") from error
    return {collection: Shard(folder, collection, index["dtype"]) for collection in index["tokens"]}
