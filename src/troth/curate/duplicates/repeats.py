"""Sentences that documents have in common, three in a row: the first document keeps them, the others go without, as in
C4 (Raffel et al. 2020, section 2.2).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from troth.curate.buckets import Buckets, groups
from troth.curate.document import Document
from troth.curate.duplicates.candidates import Numbers
from troth.curate.duplicates.prints import read_prints, read_spans
from troth.curate.duplicates.sentences import SPAN, sentences
from troth.curate.filter.words import Words, among
from troth.curate.headings import headings, is_heading
from troth.curate.parts import Parts
from troth.curate.records import Decision
from troth.system import CurateTable

_SAID = np.dtype([
    ("hash", "<u8"), ("date", "<u4"), ("text", "<u8"), ("number", "<i8"), ("at", "<u4"), ("publisher", "<u8"),
])  # fmt: skip
_NOTHING = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool)
RULE = "repeated_sentences"


@dataclass(frozen=True)
class Cuts:
    """Documents, the sentences that they lose, and whether another publisher said them first, shape [n], sorted by
    document and sentence."""

    numbers: Numbers
    at: Numbers
    others: npt.NDArray[np.bool_]

    def of(self, part: int) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...]]]:
        """Rows of a part, the numbers of sentences, and those of them that another publisher said first."""
        first, last = np.searchsorted(self.numbers, [part << 32, (part + 1) << 32])
        rows, at, others = self.numbers[first:last] & 0xFFFFFFFF, self.at[first:last], self.others[first:last]
        edges = np.flatnonzero(np.diff(rows, prepend=-1, append=-1)).tolist()
        for start, end in pairwise(edges):
            lost = at[start:end]
            yield int(rows[start]), tuple(lost.tolist()), tuple(lost[others[start:end]].tolist())


def repeated_sentences(parts: Parts, numbers: Sequence[int], gone: Numbers, repeated_in: int, work: Path) -> Cuts:
    """Of each three sentences in a row that `repeated_in` documents or more say, where all but the first document say
    them. Documents that are `gone` (sorted) do not count; the first is the one published first. What the first one's
    publisher says again at another date stays: it tells that the thing still holds."""
    if not repeated_in:
        return Cuts(*_NOTHING)
    size = sum(parts.file(part, "sentences", "bin").stat().st_size for part in numbers) * 2
    buckets = Buckets(work / "sentences", _SAID, size)
    for part in numbers:
        prints = read_prints(parts, part)
        for some in read_spans(parts, part):
            ids = some["row"] + np.int64(part << 32)
            stays = ~among(ids, gone)
            some, ids = some[stays], ids[stays]
            said = np.empty(len(some), _SAID)
            said["hash"], said["number"], said["at"] = some["hash"], ids, some["at"]
            rows = some["row"]
            said["date"], said["text"] = prints["date"][rows], prints["high"][rows]
            said["publisher"] = prints["publisher"][rows]
            buckets.add(said, said["hash"])
    lost = [_NOTHING]
    for bucket in buckets.read():
        bucket = bucket[np.lexsort((bucket["at"], bucket["number"], bucket["text"], bucket["date"], bucket["hash"]))]
        for start, end in groups(bucket["hash"]):
            said = bucket[start:end]
            if len(np.unique(said["number"])) >= max(2, repeated_in):
                again = said[said["number"] != said["number"][0]]
                edition = (again["publisher"] == said["publisher"][0]) & (again["publisher"] != 0)
                again = again[~edition | (again["date"] == said["date"][0])]
                others = again["publisher"] != said["publisher"][0]
                lost.append((again["number"], again["at"].astype(np.int64), others))
    documents, at, others = (np.concatenate(column) for column in zip(*lost, strict=True))
    order = np.lexsort((at, documents))
    return Cuts(documents[order], at[order], others[order])


def cut_repeats(
    document: Document, starts: Sequence[int], settings: CurateTable
) -> tuple[Document | None, list[Decision]]:
    """The document without the sentences of which three in a row begin at `starts`; None where too little is left."""
    if not starts:
        return document, []
    found = sentences(Words(document.text))
    text, pieces, at = document.text, [], 0
    decisions: list[Decision] = []
    for first, last in _runs(starts):
        start, end = int(found.starts[first]), int(found.ends[last - 1])
        pieces += [text[at:start].rstrip(" "), _heading(text[start:end], text[end:])]
        decisions.append(_decision(document, "changed", last - first, settings.repeated_in, text[start:end]))
        at = end
    left = "".join([*pieces, text[at:]])
    left = "\n\n".join(words for paragraph in left.split("\n\n") if (words := paragraph.strip()))
    if int(Words(left).is_word.sum()) < settings.min_words:
        share = 1 - len(left) / len(text)
        return None, [*decisions, _decision(document, "dropped", share, 1.0, left)]
    return replace(document, text=left), decisions


def only_repeats(document: Document, starts: Sequence[int]) -> Document:
    """The sentences of a document of which three in a row begin at `starts`, with the headings above them."""
    found = sentences(Words(document.text))
    text, pieces, at = document.text, [], 0
    for first, last in _runs(starts):
        start, end = int(found.starts[first]), int(found.ends[last - 1])
        pieces += [*headings(text[at:start]), text[start:end]]
        at = end
    return replace(document, text="\n\n".join(pieces))


def _heading(gone: str, left: str) -> str:
    """The heading, among sentences that go, under which what is left after them stands."""
    last = headings(gone)[-1:]
    follows = left.lstrip().partition("\n")[0]
    return f"\n\n{last[0]}\n\n" if last and follows and not is_heading(follows.strip()) else ""


def _runs(starts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Sentences from the first to the one after the last of each run that threes cover."""
    first, last = starts[0], starts[0] + SPAN
    for start in starts[1:]:
        if start > last:
            yield first, last
            first = start
        last = start + SPAN
    yield first, last


def _decision(document: Document, label: str, value: float, limit: float, text: str) -> Decision:
    return Decision("duplicates", document.source, label, RULE, value, limit, text)
