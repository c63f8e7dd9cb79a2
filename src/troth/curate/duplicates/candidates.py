"""Pairs of documents that may be duplicates: equal texts, and MinHashes that agree in a band (locality-sensitive
hashing; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4), joined on disk.

A document is a number: its part times 2^32 and its row there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from troth.curate.buckets import Buckets, groups
from troth.curate.duplicates.prints import KINDS, PERMUTATIONS, read_prints
from troth.curate.filter.words import Hashes, among
from troth.curate.parts import Parts

Numbers = npt.NDArray[np.int64]

BANDS = 64
"""Of two hashes each: texts of which a seventh is alike are found with a probability of 0.73, half with 1.00."""
_EQUAL = np.dtype([("high", "<u8"), ("low", "<u8"), ("date", "<u4"), ("number", "<i8")])
_BAND = np.dtype([("band", "<u8"), ("tie", "<u8"), ("number", "<i8")])
_ROWS = 4096
_PARTNERS = 32
"""Of a band that more documents share, each is compared with as many of them."""
_MIX = np.uint64(0x9E3779B97F4A7C15)


def equal_texts(parts: Parts, numbers: Sequence[int], work: Path) -> list[Numbers]:
    """Documents of the same kind and text, those that were published first in front, each group an array."""
    size = sum(len(read_prints(parts, part)) for part in numbers) * _EQUAL.itemsize
    buckets = Buckets(work / "equal", _EQUAL, size)
    for part in numbers:
        prints = read_prints(parts, part)
        for first in range(0, len(prints), _ROWS):
            rows = prints[first : first + _ROWS]
            found = np.empty(len(rows), _EQUAL)
            found["high"], found["date"] = rows["high"], rows["date"]
            found["low"] = rows["low"] ^ (rows["kind"].astype(np.uint64) * _MIX)
            found["number"] = document_numbers(part, first, len(rows))
            buckets.add(found, found["high"])
    same: list[Numbers] = []
    for bucket in buckets.read():
        bucket = bucket[np.lexsort((bucket["number"], bucket["date"], bucket["low"], bucket["high"]))]
        for start, end in groups(bucket[["high", "low"]]):
            same.append(bucket["number"][start:end].copy())
    return same


def like_texts(
    parts: Parts, numbers: Sequence[int], without: Numbers, near_duplicate: float, work: Path
) -> npt.NDArray[np.int64]:
    """Pairs of documents that may share `near_duplicate` of the smaller one's shingles, each once, shape [pairs, 2].

    Facts are left out, and the documents `without` (sorted).
    """
    size = sum(len(read_prints(parts, part)) for part in numbers) * _BAND.itemsize * BANDS
    buckets = Buckets(work / "bands", _BAND, size)
    for part in numbers:
        prints = read_prints(parts, part)
        for first in range(0, len(prints), _ROWS):
            rows = prints[first : first + _ROWS]
            ids = document_numbers(part, first, len(rows))
            meant = (rows["kind"] != KINDS.index("facts")) & (rows["shingles"] > 0) & ~among(ids, without)
            if meant.any():
                _add_bands(buckets, rows[meant], ids[meant])
    found = [np.zeros((0, 2), np.int64)]
    for bucket in buckets.read():
        pairs = _pairs(bucket[np.lexsort((bucket["number"], bucket["tie"], bucket["band"]))])
        found.append(_likely(parts, pairs, near_duplicate))
    return np.unique(np.concatenate(found), axis=0)


def document_numbers(part: int, first: int, count: int) -> Numbers:
    """Numbers of `count` documents of a part from row `first` on."""
    return np.arange(count, dtype=np.int64) + ((part << 32) + first)


def _add_bands(buckets: Buckets, rows: npt.NDArray[Any], ids: Numbers) -> None:
    bands: Hashes = np.ascontiguousarray(rows["minhash"]).view(np.uint64)
    salt = (np.arange(1, BANDS + 1, dtype=np.uint64) * _MIX) ^ rows["kind"].astype(np.uint64)[:, None]
    bands = (bands ^ salt) * _MIX
    bands ^= bands >> np.uint64(32)
    found = np.empty(bands.size, _BAND)
    found["band"] = bands.ravel()
    found["tie"], found["number"] = np.repeat(rows["high"], BANDS), np.repeat(ids, BANDS)
    buckets.add(found, found["band"])


def _pairs(bucket: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Pairs that share a band, whatever the order in which documents came."""
    numbers = bucket["number"]
    found = []
    for start, end in groups(bucket["band"]):
        size = min(_PARTNERS, end - start - 1)
        for partner in range(start, start + size):
            others = numbers[partner + 1 : end]
            found.append(np.stack((np.full_like(others, numbers[partner]), others), axis=1))
    if not found:
        return np.zeros((0, 2), np.int64)
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _likely(parts: Parts, pairs: npt.NDArray[np.int64], near_duplicate: float) -> npt.NDArray[np.int64]:
    """Pairs whose MinHashes agree as often as they would, but for three standard deviations, if enough were shared."""
    kept = []
    for first in range(0, len(pairs), _ROWS):
        some = pairs[first : first + _ROWS]
        a, b = (_prints_of(parts, some[:, side]) for side in (0, 1))
        alike = (a["minhash"] == b["minhash"]).mean(axis=1)
        small = np.minimum(a["shingles"], b["shingles"]) * near_duplicate
        least = small / (a["shingles"].astype(float) + b["shingles"] - small)
        kept.append(some[alike >= least - 3 * np.sqrt(least * (1 - least) / PERMUTATIONS)])
    return np.concatenate(kept) if kept else pairs


def _prints_of(parts: Parts, numbers: Numbers) -> npt.NDArray[Any]:
    which = numbers >> 32
    found = None
    for part in np.unique(which).tolist():
        prints = read_prints(parts, part)
        if found is None:
            found = np.empty(len(numbers), prints.dtype)
        mine = which == part
        found[mine] = prints[numbers[mine] & 0xFFFFFFFF]
    assert found is not None
    return found
