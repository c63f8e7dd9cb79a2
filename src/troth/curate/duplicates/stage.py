"""The stage `duplicates`: first over all parts at once, what repeats what; then, part by part, the documents without.

Memory holds a bucket at a time and, of the whole corpus, some two hundred bytes for each document that repeats another.
One cluster of near duplicates has to fit in memory with its texts.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from troth.curate.buckets import BUCKET_BYTES
from troth.curate.document import Document
from troth.curate.duplicates.candidates import Numbers, equal_texts, like_texts
from troth.curate.duplicates.prints import read_prints
from troth.curate.duplicates.repeats import cut_repeats, only_repeats, repeated_sentences
from troth.curate.duplicates.resolve import Repeat, Suspect, resolve
from troth.curate.parts import Parts
from troth.curate.progress import Counter
from troth.curate.records import Decision
from troth.curate.rows import RowWriter, read_rows
from troth.system import CurateTable

STAGE = "duplicates"
FOUND = "duplicates-found"

T = TypeVar("T")


@dataclass(frozen=True)
class Copy:
    """The document in `row` of its part repeats the document `of` (a source), which `publisher` published at a date;
    `kind` is `exact` or `near`."""

    row: int
    of: str
    publisher: str
    published: str
    score: float
    kind: str


@dataclass(frozen=True)
class Cut:
    """The sentences of the document in `row` that documents said before: the numbers `at` of the first of three, and
    those of them that another publisher said first."""

    row: int
    at: tuple[int, ...]
    others: tuple[int, ...]


_UNCUT = Cut(0, (), ())


def find_duplicates(numbers: Sequence[int], out: Path, settings: CurateTable) -> None:
    """Find what the documents of all the filtered parts `numbers` repeat, and write `copies` and `cuts` for each part.

    Does nothing where that was done. The result does not depend on the number or the order of parts.
    """
    found, parts = Parts(out, FOUND), Parts(out, "filter")
    if found.is_done(0):
        return
    work = found.folder / "buckets"
    shutil.rmtree(work, ignore_errors=True)
    same = _led(parts, equal_texts(parts, numbers, work))
    copies = np.sort(np.concatenate([group[1:] for group in same] or [np.zeros(0, np.int64)]))
    pairs = like_texts(parts, numbers, copies, settings.near_duplicate, work)
    near = {repeat.number: repeat for repeat in _near(parts, numbers, pairs, settings, work)}
    repeats = [(repeat, "near") for repeat in near.values()]
    for group in same:
        leader = int(group[0])
        kept = near.get(leader)
        repeats += [
            (replace(kept, number=int(number)), "near") if kept else (Repeat(int(number), leader, 1.0), "exact")
            for number in group[1:]
        ]
    gone = np.sort(np.array([repeat.number for repeat, _ in repeats], np.int64))
    first = np.unique(np.array([repeat.of for repeat, _ in repeats], np.int64))
    names = {number: (one.source, one.publisher, one.published) for number, one in _rows(parts, first, _Name)}
    by_part: dict[int, list[Copy]] = {}
    for repeat, kind in repeats:
        copy = Copy(repeat.number & 0xFFFFFFFF, *names[repeat.of], repeat.score, kind)
        by_part.setdefault(repeat.number >> 32, []).append(copy)
    cuts = repeated_sentences(parts, numbers, gone, settings.repeated_in, work)
    for part in numbers:
        found.write(part, "copies", Copy, sorted(by_part.get(part, []), key=lambda one: one.row))
        found.write(part, "cuts", Cut, (Cut(*cut) for cut in cuts.of(part)))
    shutil.rmtree(work, ignore_errors=True)
    found.finish(0)


def duplicates_part(part: int, out: Path, settings: CurateTable) -> None:
    """Write `documents` and `decisions` of a part, after `find_duplicates`, and `repeats`: what goes because another
    publisher, or an earlier edition, said it, for it testifies still. Once done, do nothing."""
    parts, found = Parts(out, STAGE), Parts(out, FOUND)
    if parts.is_done(part):
        return
    copies = {copy.row: copy for copy in found.read(part, "copies", Copy)}
    cuts = {cut.row: cut for cut in found.read(part, "cuts", Cut)}
    with (
        parts.writer(part, "documents", Document) as documents,
        parts.writer(part, "repeats", Document) as repeats,
        parts.writer(part, "decisions", Decision) as decisions,
        Counter(parts, part) as counter,
    ):
        for row, document in enumerate(counter.documents(Parts(out, "filter").read(part, "documents", Document))):
            copy = copies.get(row)
            if copy:
                limit = 1.0 if copy.kind == "exact" else settings.near_duplicate
                rule = f"{copy.kind}_duplicate"
                decisions.add(Decision(
                    STAGE, document.source, "dropped", rule, copy.score, limit,
                    "" if copy.kind == "exact" else document.text, copy.of,
                ))  # fmt: skip
                if (copy.publisher, copy.published) != (document.publisher, document.published):
                    repeats.add(document)
                continue
            cut = cuts.get(row, _UNCUT)
            left, made = cut_repeats(document, cut.at, settings)
            decisions.add_all(made)
            if left:
                documents.add(left)
            if cut.others:
                repeats.add(only_repeats(document, cut.others) if left else document)
    parts.finish(part)


def _led(parts: Parts, same: list[Numbers]) -> list[Numbers]:
    """Groups of equal texts, led by the one that stays: published first, then first by source."""
    if not same:
        return same
    about = _about(parts, np.sort(np.concatenate(same)))
    return [np.array(sorted(group.tolist(), key=lambda one: about[one]), np.int64) for group in same]


@dataclass(frozen=True)
class _Name:
    source: str
    publisher: str
    published: str


def _about(parts: Parts, wanted: Numbers) -> dict[int, tuple[bool, str, str, int]]:
    return {
        number: (not name.published, name.published, name.source, number)
        for number, name in _rows(parts, wanted, _Name)
    }


def _rows(parts: Parts, wanted: Numbers, form: type[T]) -> Iterator[tuple[int, T]]:
    """The documents of the numbers wanted, as rows of some of their columns."""
    for part in np.unique(wanted >> 32).tolist():
        rows = set((wanted[wanted >> 32 == part] & 0xFFFFFFFF).tolist())
        for row, document in enumerate(parts.read(part, "documents", form)):
            if row in rows:
                yield (part << 32) + row, document


def _near(
    parts: Parts, numbers: Sequence[int], pairs: npt.NDArray[np.int64], settings: CurateTable, work: Path
) -> Iterator[Repeat]:
    """What candidates repeat, their clusters gathered on disk in buckets."""
    if not len(pairs):
        return
    members = np.unique(pairs)
    clusters = members[_connected(np.searchsorted(members, pairs), len(members))]
    count = max(1, -(-_characters(parts, members) * 2 // BUCKET_BYTES))
    files = [work / "clusters" / f"{bucket:04d}.parquet" for bucket in range(count)]

    def weigh(suspect: Suspect) -> int:
        return len(suspect.text) * count  # all writers together hold one batch

    with ExitStack() as stack:
        writers = [stack.enter_context(RowWriter(file, Suspect, weigh=weigh)) for file in files]
        cluster_of = dict(zip(members.tolist(), clusters.tolist(), strict=True))
        for number, document in _rows(parts, members, Document):
            cluster = cluster_of[number]
            writers[cluster % count].add(
                Suspect(cluster, number, document.source, document.publisher, document.published, document.text)
            )
        del cluster_of
    homes = clusters[np.searchsorted(members, pairs[:, 0])] % count
    for bucket, file in enumerate(files):
        partners: dict[int, list[int]] = {}
        for a, b in pairs[homes == bucket].tolist():
            partners.setdefault(a, []).append(b)
            partners.setdefault(b, []).append(a)
        suspects = sorted(read_rows(file, Suspect), key=lambda one: one.cluster)
        for _, members_of_one in groupby(suspects, key=lambda one: one.cluster):
            yield from resolve(list(members_of_one), partners, settings.near_duplicate)


def _characters(parts: Parts, members: Numbers) -> int:
    total = 0
    for part in np.unique(members >> 32).tolist():
        prints = read_prints(parts, part)
        total += int(prints["length"][members[members >> 32 == part] & 0xFFFFFFFF].sum())
    return total


def _connected(pairs: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """The least member of the component of each of `count` nodes that `pairs` connect."""
    least = np.arange(count)
    while True:
        before = least.copy()
        low = np.minimum(least[pairs[:, 0]], least[pairs[:, 1]])
        np.minimum.at(least, pairs[:, 0], low)
        np.minimum.at(least, pairs[:, 1], low)
        least = least[least]
        if (least == before).all():
            return least
