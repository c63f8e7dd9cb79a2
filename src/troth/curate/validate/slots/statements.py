"""From documents to statements: in a wording that comes back, what is spoken of, and what is said of it.

The subject is the coarsest context that makes a wording occur once an edition: the page's title, else the heading, else
a name in the sentence; where figures of several years stand side by side, the year is part of it. A year that moves along
with the editions' dates is a date stamp and says nothing. What is left in the slots are the values.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from troth.curate.document import Document
from troth.curate.validate.slots.frames import place
from troth.curate.validate.slots.readings import Reading, read
from troth.curate.validate.slots.tokens import NAME, SUBJECT, YEAR, Line, Words, headings, lines, plain_title

_NEARLY, _MOST, _FEW_TITLES = 0.93, 0.5, 3
Relation = tuple[str, tuple[str, ...], int]
"""A publisher, its wording, and the number of the slot."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`text`, characters `start:end` of a document, is what a publisher says of `subject` (in `year`) by a relation."""

    document: Document
    line: tuple[int, int]
    start: int
    end: int
    relation: Relation
    subject: str
    year: str
    reading: Reading

    @property
    def text(self) -> str:
        """The value as written."""
        return self.document.text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class _Instance:
    document: Document
    line: Line
    slots: tuple[tuple[int, int], ...]
    title: str

    def span(self, slot: int) -> tuple[int, int]:
        first, last = self.slots[slot]
        return self.line.tokens[first].start, self.line.tokens[last - 1].end

    def text(self, slot: int) -> str:
        start, end = self.span(slot)
        return self.document.text[start:end]


def find_statements(documents: Iterable[Document]) -> list[Statement]:
    """All statements of documents whose publishers repeat their wordings."""
    by_publisher: dict[str, list[Document]] = defaultdict(list)
    words, subjects = Words(), set()
    for document in documents:
        by_publisher[document.publisher].append(document)
        words.add(document.text)
        subjects |= headings(document)
    titles = {publisher: _titles(ours) for publisher, ours in by_publisher.items()}
    subjects |= {title for ours in titles.values() for title in ours.values()}
    subjects.discard("")
    found: list[Statement] = []
    for publisher in sorted(by_publisher):
        frames = _frames(by_publisher[publisher], titles[publisher], subjects, words)
        for frame in sorted(frames):
            found += _state(publisher, frame, frames[frame], subjects)
    return found


def _titles(documents: Sequence[Document]) -> dict[str, str]:
    """What each title is about: its words without those that most titles of the publisher have."""
    plain = {document.title: plain_title(document.title) for document in documents}
    different = set(plain.values())
    counts = Counter(word for title in different for word in set(title.split()))
    usual = {word for word, n in counts.items() if n >= _MOST * len(different)} if len(different) >= _FEW_TITLES else set()
    return {title: " ".join(word for word in short.split() if word not in usual) for title, short in plain.items()}


def _frames(
    documents: Sequence[Document], titles: dict[str, str], subjects: set[str], words: Words
) -> dict[tuple[str, ...], list[_Instance]]:
    owners: list[tuple[Document, str]] = []
    found: list[Line] = []
    pages: list[tuple[str, str]] = []
    for document in documents:
        title = titles[document.title]
        for line in lines(document, title, subjects, words):
            owners.append((document, title))
            found.append(line)
            page = f"{document.published}/{title}/{line.heading}"
            pages.append((page, _first_name(document, line, subjects) or page))
    frames: dict[tuple[str, ...], list[_Instance]] = defaultdict(list)
    for (document, title), line, placed in zip(owners, found, place(found, pages), strict=True):
        if placed and placed.slots:
            frames[placed.frame].append(_Instance(document, line, placed.slots, title))
    return frames


def _first_name(document: Document, line: Line, subjects: set[str]) -> str:
    """The first name in a sentence that a page is about, else the first name, with the edition."""
    names = [document.text[t.start : t.end] for t in line.tokens if t.form in (NAME, SUBJECT)]
    known = [name for name in map(plain_title, names) if name in subjects]
    return f"{document.published}/{(known or names)[0]}" if names else ""


def _state(publisher: str, frame: tuple[str, ...], told: list[_Instance], subjects: set[str]) -> list[Statement]:
    """The statements of one wording."""
    slots = [slot for slot in range(len(told[0].slots)) if not _constant(told, slot)]
    years = [slot for slot in slots if _is_year(told, slot)]
    stamps = [slot for slot in years if _stamps(told, slot)]
    slots = [slot for slot in slots if slot not in stamps]
    years = [slot for slot in years if slot not in stamps and len(slots) > 1]
    chosen = _subject(told, slots, years, subjects)
    if chosen is None:
        return []
    name, taken = chosen
    values = [slot for slot in slots if slot not in taken]
    year = next((slot for slot in taken if slot in years), None)
    if year is None and years and len(values) > 1:
        year = years[0]
        values.remove(year)
    found = []
    for one in told:
        for slot in values:
            start, end = one.span(slot)
            reading = read(one.text(slot))
            when = one.text(year) if year is not None else ""
            place = one.line.start, one.line.end
            found.append(Statement(one.document, place, start, end, (publisher, frame, slot), name(one), when, reading))
    return found


def _subject(
    told: list[_Instance], slots: list[int], years: list[int], subjects: set[str]
) -> tuple[Callable[[_Instance], str], list[int]] | None:
    """What a wording is about, and which slots that takes; None where its sentences cannot be told apart."""
    options: list[tuple[Callable[[_Instance], str], list[int]]] = [(lambda one: one.title, [])]
    if any(one.line.heading for one in told):
        options.append((lambda one: one.line.heading, []))
    named = [slot for slot in slots if _is_name(told, slot)]
    known = {slot: sum(plain_title(one.text(slot)) in subjects for one in told) for slot in named}
    for slot in sorted(named, key=lambda slot: (-known[slot], slot)):
        if len(slots) > 1:
            options.append((lambda one, slot=slot: plain_title(one.text(slot)), [slot]))  # type: ignore[misc]
    for extra in ([], *([year] for year in years)):
        for name, taken in options:
            if len(slots) - len(taken) - len(extra) > 0 and _tells_apart(told, name, extra):
                return name, [*taken, *extra]
    return None


def _tells_apart(told: list[_Instance], name: Callable[[_Instance], str], extra: list[int]) -> bool:
    names = [name(one) for one in told]
    if not all(names):
        return False
    keys = {
        (one.document.published, called, *(one.text(slot) for slot in extra)) for one, called in zip(told, names, strict=True)
    }
    return len(keys) >= _NEARLY * len(told)


def _constant(told: list[_Instance], slot: int) -> bool:
    (_, most), = Counter(one.text(slot) for one in told).most_common(1)
    return most > _NEARLY * len(told) and len(told) > most or most == len(told)


def _is_year(told: list[_Instance], slot: int) -> bool:
    return all(one.line.tokens[one.slots[slot][0]].form == YEAR for one in told)


def _is_name(told: list[_Instance], slot: int) -> bool:
    return all(one.line.tokens[one.slots[slot][0]].form == NAME for one in told)


def _stamps(told: list[_Instance], slot: int) -> bool:
    """Whether every edition has its own year there, as a date stamp does."""
    editions: dict[str, Counter[str]] = defaultdict(Counter)
    for one in told:
        editions[one.document.published][one.text(slot)] += 1
    return sum(max(years.values()) for years in editions.values()) >= _NEARLY * len(told)
