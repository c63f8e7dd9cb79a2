"""Phrases: the few words right beside a value, and what else the corpus has between them.

Sentences that are little alike as wholes may tell the same fact in the same few words: "the loop of Henle",
"erythropoietin (EPO)". What stands between the same words on many pages, nearly always the same, belongs there.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from troth.curate.buckets import BUCKET_BYTES, Buckets, in_order
from troth.curate.validate.mapped import Maps
from troth.curate.validate.values import Value

_REACH, _MOST = 48, 64
_TOKEN = re.compile(r"\w+|[^\w\s]")
_KEYS, _SPOTS = 4, 3
"""Of each of the likeliest values, so many sentences are shown."""
_COLUMNS = "phrase", "key", "at"
_ROW = np.dtype([("phrase", "<i8"), ("key", "<i8"), ("at", "<i8"), ("source", "<i8")])
BUCKETS, _TOGETHER = 64, 1 << 18
"""Of the rows of a corpus; numbers that wait to be put there."""
Heard = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From numbers of sentences [N]: which of them may testify, and the marks of their sources."""


@dataclass(frozen=True)
class Spoken:
    """What stands between the words beside a value elsewhere: `share` of the pages that have each value there, by the
    value's `key_of`, and the numbers of some sentences (`at`) that do."""

    share: dict[int, float]
    at: list[int]


def key_of(value: Value) -> int:
    """63 bits by which values of one form are compared."""
    return hash63(f"{value.kind}/{value.key}")


def words_beside(text: str, value: Value, reach: int) -> tuple[list[str], list[str]]:
    """The words and signs in the `reach` characters before a value of a text, and in those after it, in small
    letters."""
    before, after = text[max(0, value.start - reach) : value.start], text[value.end : value.end + reach]
    return _TOKEN.findall(before.lower()), _TOKEN.findall(after.lower())


def hash63(text: str) -> int:
    """63 bits of a hash, which fit into a signed number."""
    return xxhash.xxh3_64_intdigest(text) >> 1


def phrases_of(text: str, value: Value) -> list[int]:
    """The phrases that a value of a text stands in, as 63 bits each: two words before it, two after, and one or two on
    either side."""
    before, after = words_beside(text, value, _REACH)
    before, after = before[-2:], after[:2]
    sides = [(before[-1:], after[:1]), (before, after[:1]), (before[-1:], after)]
    sides += [(before, [])] * (len(before) == 2) + [([], after)] * (len(after) == 2)
    kind = "name" if value.kind == "name" else "number"
    return [hash63(f"{kind}\0{' '.join(left)}\0{' '.join(right)}") for left, right in sides if left or right]


class PhraseWriter:
    """Collects where the values of a corpus stand."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._buckets = Buckets(folder / "rows", _ROW, BUCKETS * BUCKET_BYTES)
        self._rows = array("q")

    def add(self, at: int, text: str, values: Iterable[Value], source: int) -> None:
        """The values of sentence `at` of a source, given by its mark."""
        for value in values:
            key = key_of(value)
            for phrase in phrases_of(text, value):
                self._rows.extend((phrase, key, at, source))
        if len(self._rows) > _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        rows = np.array(self._rows, np.int64).view(_ROW)
        del self._rows[:]
        self._buckets.add(rows, in_order(rows["phrase"], self._buckets.count))

    def close(self) -> None:
        """Write what more than one page says, in the order of the phrases, a file each for phrase, key and sentence."""
        self._flush()
        with ExitStack() as stack:
            files = [stack.enter_context((self._folder / f"{name}.bin").open("wb")) for name in _COLUMNS]
            for rows in self._buckets.read():
                rows = rows[np.argsort(rows["phrase"], kind="stable")]
                starts = np.flatnonzero(np.diff(rows["phrase"], prepend=-1))
                source = rows["source"]
                several = np.minimum.reduceat(source, starts) < np.maximum.reduceat(source, starts)
                kept = rows[np.repeat(several, np.diff(starts, append=len(rows)))]
                for name, file in zip(_COLUMNS, files, strict=True):
                    kept[name].tofile(file)


class Phrases:
    """What `PhraseWriter` wrote."""

    def __init__(self, folder: Path, maps: Maps):
        self._phrases, self._keys, self._at = (maps.array(folder / f"{name}.bin", np.int64) for name in _COLUMNS)

    def elsewhere(self, text: str, value: Value, heard: Heard) -> Spoken:
        """What stands in the place of a value of a text."""
        asked = np.array(phrases_of(text, value), np.int64)
        first = np.searchsorted(self._phrases, asked)
        last = np.searchsorted(self._phrases, asked, side="right")
        share: dict[int, float] = {}
        spots: dict[int, dict[int, int]] = {}
        for start, end in zip(first.tolist(), last.tolist(), strict=True):
            if start == end:
                continue
            rows = slice(start, end, max(1, (end - start) // _MOST))
            at = self._at[rows]
            allowed, source = heard(at)
            said = dict(
                zip(
                    zip(self._keys[rows][allowed].tolist(), source[allowed].tolist(), strict=True),
                    at[allowed].tolist(), strict=True,
                )
            )  # fmt: skip
            for key, count in Counter(key for key, _ in said).items():
                share[key] = max(share.get(key, 0.0), count / (len(said) + 1))
            for (key, where), number in said.items():
                spots.setdefault(key, {}).setdefault(where, number)
        best = sorted(share, key=lambda key: (-share[key], key))[:_KEYS]
        return Spoken(share, [number for key in best for number in list(spots[key].values())[:_SPOTS]])
