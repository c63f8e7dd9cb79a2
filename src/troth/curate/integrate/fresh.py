"""Which rows are new: those whose key neither the table has, nor an earlier row of the same stream.

Keys are compared by 64-bit hashes, of which only those of the rows to be added are held: the table's own keys pass by.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

Hashes = np.ndarray
"""One unsigned 64-bit integer a row."""


def hashes(batch: Any) -> Hashes:
    """The hash of each row of a record batch whose columns, all of text, make the key."""
    digest = xxhash.xxh3_64_intdigest
    columns = [column.cast(pa.binary()).to_pylist() for column in batch.columns]
    keys = columns[0] if len(columns) == 1 else map(b"\0".join, zip(*columns, strict=True))
    return np.fromiter(map(digest, keys), np.uint64, batch.num_rows)


def first_of_each(new: Iterable[Any], known: Iterable[Any]) -> Iterator[np.ndarray]:
    """For each batch of `new` a mask of its rows that are the first with their key. Batches hold the key's columns."""
    parts = [hashes(batch) for batch in new]
    ends = np.cumsum([len(part) for part in parts])[:-1]
    every = np.concatenate([*parts, np.empty(0, np.uint64)])
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
