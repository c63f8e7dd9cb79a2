"""Which rows are new: those whose key neither the table has, nor an earlier row of the same stream.

Keys are compared by 64-bit hashes, of which only those of the rows to be added are held: the table's own keys pass by.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from troth.curate.filter.words import Hashes


def hashes(batch: Any) -> Hashes:
    """The hash of each row of a record batch whose columns, all of text, make the key."""
    if batch.num_columns == 1 and (ids := _ids(batch.column(0))) is not None:
        return ids
    digest = xxhash.xxh3_64_intdigest
    columns = [column.cast(pa.binary()).to_pylist() for column in batch.columns]
    keys = columns[0] if len(columns) == 1 else map(b"\0".join, zip(*columns, strict=True))
    return np.fromiter(map(digest, keys), np.uint64, batch.num_rows)


def _ids(column: Any) -> Hashes | None:
    """Keys of 16 bytes each, mixed by the finaliser of MurmurHash3 (Appleby 2011); None for any others."""
    _, offsets, data = column.buffers()
    start, end = column.offset, column.offset + len(column)
    at = np.frombuffer(offsets, np.int32)[start : end + 1]
    if column.null_count or not len(column) or (np.diff(at) != 16).any():
        return None
    halves = np.frombuffer(data, np.uint8)[at[0] : at[-1]].copy().view(np.uint64).reshape(-1, 2)
    return _mixed(_mixed(halves[:, 0]) + halves[:, 1])


def _mixed(value: Hashes) -> Hashes:
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (33, 0xC4CEB9FE1A85EC53), (33, 1)):
        value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
    return value


def first_of_each(new: Iterable[Any], known: Iterable[Any]) -> Iterator[np.ndarray]:
    """For each batch of `new` a mask of its rows that are the first with their key. Batches hold the key's columns."""
    parts = [hashes(batch) for batch in new]
    if not parts:
        return
    ends = np.cumsum([len(part) for part in parts])[:-1]
    every = np.concatenate(parts)
    keys, first = np.unique(every, return_index=True)
    fresh = np.ones(len(keys), bool)
    for batch in known:
        if len(keys):
            old = hashes(batch)
            place = np.minimum(np.searchsorted(keys, old), len(keys) - 1)
            fresh[place[keys[place] == old]] = False
    keep = np.zeros(len(every), bool)
    keep[first[fresh]] = True
    yield from np.split(keep, ends)
