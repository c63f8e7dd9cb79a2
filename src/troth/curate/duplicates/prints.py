"""Fingerprints of the documents of a part, by which duplicates are found without their texts: a hash of the whole, a
MinHash of the word 5-grams (Broder 1997; rensa) and hashes of the sentences, three in a row.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, get_args

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from troth.curate.document import Document, Kind
from troth.curate.duplicates.sentences import spans
from troth.curate.filter.words import Hashes, Words, distinct, grams
from troth.curate.parts import Parts

SHINGLE_WORDS = 5
PERMUTATIONS, _SEED = 128, 1
KINDS = get_args(Kind)
PRINT = np.dtype([
    ("high", "<u8"), ("low", "<u8"), ("kind", "u1"), ("date", "<u4"), ("length", "<u4"), ("shingles", "<u4"),
    ("publisher", "<u8"), ("minhash", "<u4", (PERMUTATIONS,)),
])  # fmt: skip
"""Of one document: 128 bits of its text's SHA-256, its kind, the day that it was published (undated ones come last),
characters, different shingles, a hash of its publisher (0: unknown), MinHash. The position in the file is the row of
the document in its part."""
SENTENCES = np.dtype([("hash", "<u8"), ("row", "<u4"), ("at", "<u4")])
"""Of three sentences in a row: their hash, the row of the document, and the number of the first."""
UNDATED = 0xFFFFFFFF
_TOGETHER = 1 << 20
"""Shingles that go through rensa in one call."""


def shingles(words: Words) -> Hashes:
    """Hashes of five words in a row, in lower case, punctuation aside, sorted, each once; of a shorter text, of all of
    it."""
    plain = words.lower[words.is_word]
    return distinct(grams(plain, min(SHINGLE_WORDS, max(1, len(plain)))))


def day(published: str) -> int:
    """An ISO date as a number that sorts like it: 2019 before 2019-07 before 2020; undated last."""
    digits = published.replace("-", "")[:8]
    return int(digits.ljust(8, "0")) if digits.isdigit() else UNDATED


def key(text: str) -> tuple[int, int]:
    """128 bits that tell texts apart."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


@dataclass
class _Waiting:
    about: list[tuple[Any, ...]]
    shingles: list[Hashes]
    size: int = 0


class PrintWriter:
    """Writes the fingerprints of a part's documents, in the order in which they come."""

    def __init__(self, parts: Parts, part: int):
        self._paths = [_prints(parts, part), _spans(parts, part)]
        parts.folder.mkdir(parents=True, exist_ok=True)
        self._files: list[IO[bytes]] = [open(f"{path}.partial", "wb") for path in self._paths]  # noqa: SIM115
        self._waiting = _Waiting([], [])
        self._rows = 0

    def add(self, document: Document, words: Words) -> None:
        """One more document and the words of its text."""
        found = shingles(words) if document.kind != "facts" else np.zeros(0, np.uint64)
        about = (*key(document.text), KINDS.index(document.kind), day(document.published), len(document.text))
        publisher = key(document.publisher)[0] if document.publisher else 0
        self._waiting.about.append((*about, len(found), publisher))
        self._waiting.shingles.append(found)
        self._waiting.size += len(found)
        if document.kind == "prose":
            at, hashes = spans(words)
            rows = np.empty(len(at), SENTENCES)
            rows["hash"], rows["row"], rows["at"] = hashes, self._rows, at
            self._files[1].write(rows.tobytes())
        self._rows += 1
        if self._waiting.size > _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, _Waiting([], [])
        if not waiting.about:
            return
        offsets = np.cumsum([0, *map(len, waiting.shingles)]).astype(np.uint64)
        digests = RMinHash.digest_matrix_from_flat_token_hashes(
            np.concatenate(waiting.shingles), offsets, PERMUTATIONS, _SEED
        )
        rows = np.empty(len(waiting.about), PRINT)
        for number, name in enumerate(("high", "low", "kind", "date", "length", "shingles", "publisher")):
            rows[name] = [one[number] for one in waiting.about]
        rows["minhash"] = np.asarray(digests.to_rows(), dtype=np.uint32)
        self._files[0].write(rows.tobytes())

    def __enter__(self) -> "PrintWriter":
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        if error is None:
            self._flush()
        for file, path in zip(self._files, self._paths, strict=True):
            file.close()
            if error is None:
                os.replace(f"{path}.partial", path)


def read_prints(parts: Parts, part: int) -> npt.NDArray[Any]:
    """The fingerprints of a part, mapped from its file, shape [documents] of PRINT."""
    path = _prints(parts, part)
    return np.memmap(path, PRINT, "r") if path.stat().st_size else np.empty(0, PRINT)


def read_spans(parts: Parts, part: int) -> Iterator[npt.NDArray[Any]]:
    """The hashes of a part's sentences, some at a time, shape [n] of SENTENCES."""
    with _spans(parts, part).open("rb") as file:
        while data := file.read(SENTENCES.itemsize << 18):
            yield np.frombuffer(data, SENTENCES)


def _prints(parts: Parts, part: int) -> Path:
    return parts.file(part, "prints", "bin")


def _spans(parts: Parts, part: int) -> Path:
    return parts.file(part, "sentences", "bin")
