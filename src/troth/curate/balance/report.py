"""The report of balance: for each topic, viewpoint, source, language and licence how much there was and is."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from troth.curate.balance.sample import HEAD, sample
from troth.curate.balance.topics import Topics, fit_topics
from troth.curate.balance.viewpoints import Retained, Viewpoints, fit_viewpoints, retention
from troth.curate.document import Document
from troth.curate.filter.language import MIN_PROBABILITY, language
from troth.curate.filter.loaded import tone
from troth.curate.filter.words import Words
from troth.curate.parts import Parts
from troth.curate.records import Decision

SAMPLE = 4000
"""Texts from which topics and viewpoints are learned."""
AXES = ("topic", "viewpoint", "collection", "publisher", "language", "licence")
SHOWN = 20
"""Of the names of an axis, those with most documents are listed; the rest is one line."""
_SEED = 0


@dataclass(frozen=True)
class Lens:
    """Topics and viewpoints, learned from the corpus as it came, through which it is looked at before and after."""

    topics: Topics
    viewpoints: Viewpoints

    def place(self, document: Document) -> tuple[int, str]:
        """Topic and viewpoint of a document; -1 and `none` for what is no prose."""
        if document.kind != "prose":
            return -1, "none"
        words = Words(document.text[:HEAD])
        topic = self.topics.of(words)
        return topic, self.viewpoints.of(topic, words)

    def name(self, axis: str, key: str) -> str:
        """What people read for a key of an axis."""
        if axis == "topic" and key.isdigit():
            return self.topics.names[int(key)]
        if axis == "viewpoint" and "." in key:
            topic, number = key.split(".")
            words = self.viewpoints.names[int(topic)][int(number)] if number.isdigit() else number
            return f"{self.topics.names[int(topic)]}: {words}"
        return key or "(unknown)"


@dataclass
class Census:
    """Documents by axis and name, and the sum of their scores of loaded language."""

    documents: int = 0
    loaded: float = 0.0
    by: dict[str, Counter[str]] = field(default_factory=lambda: {axis: Counter() for axis in AXES})


@dataclass(frozen=True)
class Line:
    """Documents of one name of an axis, before and after."""

    axis: str
    key: str
    name: str
    before: int
    after: int


@dataclass(frozen=True)
class Balance:
    """`lines` of all axes; `breadth` of each axis, before and after, is the number of equally large names that would be
    as mixed (the exponential of the entropy); `loaded` the mean score of loaded language."""

    documents: tuple[int, int]
    loaded: tuple[float, float]
    breadth: dict[str, tuple[float, float]]
    lines: list[Line]
    retention: list[Retained]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def learn(documents: Iterable[Document]) -> Lens:
    """Topics and viewpoints of a corpus."""
    heads = sample(documents, SAMPLE)
    topics = fit_topics(heads, _SEED)
    return Lens(topics, fit_viewpoints(heads, topics, _SEED))


def count(documents: Iterable[Document], lens: Lens) -> Census:
    """Look at each document once."""
    census = Census()
    for document in documents:
        census.documents += 1
        topic, viewpoint = lens.place(document)
        named = {
            "topic": str(topic) if topic >= 0 else document.kind, "viewpoint": viewpoint,
            "collection": document.collection, "publisher": document.publisher, "language": _language(document),
            "licence": document.licence,
        }  # fmt: skip
        for axis, key in named.items():
            census.by[axis][key] += 1
        if document.kind == "prose":
            census.loaded += tone(Words(document.text[:HEAD])).score
    return census


def compare(before: Census, after: Census, lens: Lens, copies: Counter[str] | None = None) -> Balance:
    """The report. `copies` counts by viewpoint the documents that went because another one says the same: their views
    are kept there, so that they do not count as lost."""
    lines: list[Line] = []
    for axis in AXES:
        was, now = before.by[axis], after.by[axis]
        keys = sorted(was.keys() | now.keys(), key=lambda key: (-was[key], -now[key], key))
        lines += [Line(axis, key, lens.name(axis, key), was[key], now[key]) for key in keys[:SHOWN]]
        if rest := keys[SHOWN:]:
            sums = (sum(side[key] for key in rest) for side in (was, now))
            lines.append(Line(axis, "", f"{len(rest)} others", *sums))
    return Balance(
        (before.documents, after.documents),
        (before.loaded / max(1, before.documents), after.loaded / max(1, after.documents)),
        {axis: (_breadth(before.by[axis]), _breadth(after.by[axis])) for axis in AXES},
        lines,
        retention(before.by["viewpoint"] - (copies or Counter()), after.by["viewpoint"]),
    )


def balance(numbers: Sequence[int], out: Path, before: str = "collect", after: str = "duplicates") -> Balance:
    """How the documents of one stage compare with those of a later one, in the parts `numbers` of a curation."""

    def documents(stage: str) -> Iterator[Document]:
        return Parts(out, stage).read_all(numbers, "documents", Document)

    def copies() -> Iterator[Document]:
        for part in numbers:
            decisions = Parts(out, "duplicates").read(part, "decisions", Decision)
            gone = {decision.subject for decision in decisions if decision.label == "dropped"}
            yield from (one for one in Parts(out, before).read(part, "documents", Document) if one.source in gone)

    lens = learn(documents(before))
    copied = Counter(lens.place(document)[1] for document in copies())
    return compare(count(documents(before), lens), count(documents(after), lens), lens, copied)


def _language(document: Document) -> str:
    if document.language or document.kind != "prose":
        return document.language
    best, probability = next(iter(language(document.text[:HEAD]).items()))
    return best if probability > MIN_PROBABILITY else ""


def _breadth(counts: Counter[str]) -> float:
    total = counts.total()
    return math.exp(-sum(n / total * math.log(n / total) for n in counts.values() if n)) if total else 0.0
