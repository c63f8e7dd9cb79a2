"""Documents as memory-mapped token shards: each collection as files of bounded size (`shard_file`).

shards.json lists them. It is written last, so a folder without it was not finished.
"""

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import numpy as np

from troth.model.tokenizer import Tokenizer
from troth.system.storage import filesystem
from troth.train.cache import Cache
from troth.train.ready_shards import keep_tokenizer
from troth.train.shard_file import GrowingFile, Shard, ShardFile

FILE_BYTES, CACHE_BYTES = 2**28, 2**38
GROUP = 4
"""So many files of a collection are read at a time, their documents shuffled together (`stream`)."""
_PARTS = 4
"""A document's weight counts in quarters."""
_CHUNK_CHARACTERS, _CHUNK_DOCUMENTS = 2**18, 2**12
_LONGEST_NAME = 200


class Store(Protocol):
    """Where the files of a folder of shards are: here, or elsewhere (`cache`)."""

    def open(self, file: ShardFile) -> np.ndarray:
        """Its bytes, memory-mapped. Raises ValueError naming a file that is missing or damaged."""

    def ahead(self, reader: str, files: Iterable[ShardFile]) -> None:
        """Hear which files a reader wants now and next."""


@dataclass(frozen=True)
class Folder:
    """A local folder: files are mapped where they are, and only their size is checked."""

    path: Path

    def open(self, file: ShardFile) -> np.ndarray:
        path = self.path / file.name
        try:
            data = np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: not readable ({error}); tokenise again") from error
        if len(data) != file.bytes:
            raise ValueError(f"{path}: has {len(data)} bytes, not {file.bytes}; tokenise again")
        return data

    def ahead(self, reader: str, files: Iterable[ShardFile]) -> None:
        """They are here."""


@dataclass(frozen=True)
class Collection:
    """The files of one collection. Nothing of them is read before it is asked for."""

    name: str
    dtype: np.dtype
    divisor: int
    files: tuple[ShardFile, ...]
    store: Store
    begin: int | None = None
    """The token that documents begin with; None where shards do not say so, which then is the end-of-text token."""

    @property
    def size(self) -> int:
        """Tokens in its files."""
        return sum(file.tokens for file in self.files)

    @property
    def version(self) -> str:
        """What tells these tokens from others: a checksum over those of the files."""
        return hashlib.sha256("".join(file.sha256 for file in self.files).encode()).hexdigest()

    def epoch_tokens(self, file: int) -> int:
        """Tokens that an epoch reads of a file."""
        return self.files[file].read // self.divisor

    def open(self, file: int) -> Shard:
        """A file, brought here first if need be."""
        return Shard(self.files[file], self.store.open(self.files[file]), self.dtype, self.divisor)

    def ahead(self, files: Iterable[int]) -> None:
        """Have the files brought here that are wanted now and next."""
        self.store.ahead(self.name, [self.files[file] for file in files])


def open_shards(folder: str | Path, cache: Path | None = None, cache_bytes: int = CACHE_BYTES) -> dict[str, Collection]:
    """The shards of a folder by collection.

    A local folder is mapped in place. From an fsspec URL (`s3://...`, or `file://...` for a slow shared disk) files are
    fetched ahead of use into `cache`, which holds at most `cache_bytes`. Raises ValueError where `write_shards` did not
    finish, or where a URL has no cache or one too small.
    """
    place, remote = str(folder).rstrip("/"), "://" in str(folder)
    try:
        if remote:
            fs, path = filesystem(place)
            with fs.open(f"{path}/shards.json") as file:
                index = json.load(file)
        else:
            index = json.loads((Path(folder) / "shards.json").read_text(encoding="utf-8"))
        dtype, begin = np.dtype(index["dtype"]), index.get("begin")
        listed = {
            name: (entry["divisor"], tuple(ShardFile(**file) for file in entry["files"]))
            for name, entry in index["collections"].items()
        }
    except Exception as error:  # Every file system has errors of its own.
        raise ValueError(f"{folder}: no token shards ({error!r})") from error
    store: Store = Folder(Path(folder))
    if remote:
        if cache is None:
            raise ValueError(f"{folder}: shards at a URL need a local folder as cache")
        # At a time each collection reads one group of files and has the next fetched.
        needed = sum(sum(sorted(f.bytes for f in files)[-2 * GROUP :]) for _, files in listed.values())
        if cache_bytes < needed:
            raise ValueError(
                f"{cache}: a cache of {cache_bytes:,} bytes is too small for {folder}; it needs {needed:,}"
            )
        store = Cache(place, cache, cache_bytes)
    return {name: Collection(name, dtype, divisor, files, store, begin) for name, (divisor, files) in listed.items()}


def write_shards(
    documents: Iterable[tuple[str, str] | tuple[str, str, float]], tokenizer: Tokenizer, folder: Path,
    report: Callable[[int, int], None] = lambda documents, tokens: None, file_bytes: int = FILE_BYTES,
) -> dict[str, int]:  # fmt: skip
    """Tokenise (collection, text, weight) into `folder`, the tokenizer beside; return the tokens of each collection.

    The weight, 1 where there is none, says how often a document is read next to the others of its collection. Every
    document begins with `Tokenizer.begin_of_text`, so that the first real token has something to follow, and ends with
    the end-of-text token where that is another. Documents are
    taken as a stream and never held; all cores work, and what comes out does not depend on how many there are.
    `report` hears the documents and tokens so far. Files of more than `file_bytes` of tokens are begun for a document
    that is longer only. Raises ValueError where there is no document.
    """
    writer = ShardWriter(folder, tokenizer.vocab_size, tokenizer.begin_of_text, file_bytes)
    threads = os.cpu_count() or 1
    waiting: deque[Future[list[_Piece]]] = deque()
    done = tokens = 0

    def take() -> None:
        nonlocal done, tokens
        for piece in waiting.popleft().result():
            writer.add(*piece)
            done, tokens = done + len(piece[2]), tokens + len(piece[1])
        report(done, tokens)

    with ThreadPoolExecutor(threads) as pool:
        for chunk in _chunks(documents):
            waiting.append(pool.submit(_encode, tokenizer, chunk))
            if len(waiting) > 2 * threads:
                take()
        while waiting:
            take()
    if not done:
        raise ValueError(f"{folder}: there are no documents to tokenise")
    keep_tokenizer(tokenizer, folder)
    return writer.close()


_Piece = tuple[str, np.ndarray, list[int], list[float]]
"""Documents of one collection: its name, their tokens, the length of each and the weight of each."""


def _chunks(documents: Iterable[tuple[str, str] | tuple[str, str, float]]) -> Iterator[list[tuple[str, str, float]]]:
    """Documents in lists that are worth a thread's while."""
    chunk: list[tuple[str, str, float]] = []
    room = _CHUNK_CHARACTERS
    for collection, text, *weight in documents:
        chunk.append((collection, text, weight[0] if weight else 1.0))
        room -= len(text)
        if room <= 0 or len(chunk) == _CHUNK_DOCUMENTS:
            yield chunk
            chunk, room = [], _CHUNK_CHARACTERS
    if chunk:
        yield chunk


def _encode(tokenizer: Tokenizer, chunk: list[tuple[str, str, float]]) -> list[_Piece]:
    begin = np.array([tokenizer.begin_of_text], dtype=np.uint32)
    end = np.array([] if tokenizer.begin is None else [tokenizer.end_of_text], dtype=np.uint32)
    found: dict[str, tuple[list[np.ndarray], list[float]]] = {}
    for collection, text, weight in chunk:
        ids, weights = found.setdefault(collection, ([], []))
        ids += [begin, tokenizer.encode_to_numpy(text), end]
        weights.append(weight)
    return [
        (name, np.concatenate(ids), [1 + len(own) + len(end) for own in ids[1::3]], weights)
        for name, (ids, weights) in found.items()
    ]


class ShardWriter:
    """Writes token shards piece by piece, of documents that start with the token `begin`; `close` makes the folder a
    finished one. What stood there goes."""

    def __init__(self, folder: Path, vocab_size: int, begin: int, file_bytes: int = FILE_BYTES):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "shards.json").unlink(missing_ok=True)
        for old in folder.glob("*.tokens"):
            old.unlink()
        self.folder, self.begin, self.file_bytes = folder, begin, file_bytes
        self.dtype = np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
        self.open: dict[str, GrowingFile] = {}
        self.files: dict[str, list[ShardFile]] = {}
        self.divisors: dict[str, int] = {}

    def add(self, collection: str, tokens: np.ndarray, lengths: list[int], weights: list[float]) -> None:
        """Append documents that lie one after another in `tokens`."""
        tokens = tokens.astype(self.dtype)
        file = self.open.get(collection)
        if file is not None and file.tokens * self.dtype.itemsize + tokens.nbytes > self.file_bytes:
            self._finish(collection)
            file = None
        if file is None:
            done = self.files.setdefault(collection, [])
            name = quote(collection, safe=" ")
            if len(name) > _LONGEST_NAME:
                raise ValueError(
                    f"collection {collection[:40]!r}...: a name of at most {_LONGEST_NAME} bytes is needed"
                )
            file = self.open[collection] = GrowingFile(self.folder / f"{name}-{len(done):05d}.tokens")
        parts = [max(1, round(weight * _PARTS)) for weight in weights]
        self.divisors[collection] = math.gcd(self.divisors.get(collection, 0), *parts)
        file.add(tokens, lengths, parts)

    def close(self) -> dict[str, int]:
        """Finish all files and return the tokens of each collection."""
        for collection in list(self.open):
            self._finish(collection)
        collections = {
            name: {"divisor": self.divisors[name], "files": [asdict(file) for file in files]}
            for name, files in sorted(self.files.items())
        }
        partial = self.folder / "shards.json.partial"
        index = {"dtype": self.dtype.name, "begin": self.begin, "collections": collections}
        partial.write_text(json.dumps(index, indent=1))
        os.replace(partial, self.folder / "shards.json")
        return {name: sum(file.tokens for file in files) for name, files in sorted(self.files.items())}

    def _finish(self, collection: str) -> None:
        self.files[collection].append(self.open.pop(collection).finish())
