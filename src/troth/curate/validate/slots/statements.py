"""From documents to statements: in a wording that comes back, what is spoken of, and what is said of it.

The subject is the coarsest context that makes a wording occur once an edition: the page's title, else the heading, else
a name in the sentence; where figures of several years stand side by side, the year is part of it and, if need be, the
heading below the title. A year that moves along with the editions' dates is a date stamp and says nothing. What is left
in the slots are the values.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from troth.curate.document import Document
from troth.curate.validate.slots.frames import place
from troth.curate.validate.slots.lines import Lines
from troth.curate.validate.slots.readings import Reading, read
from troth.curate.validate.slots.survey import Survey, subject_of
from troth.curate.validate.slots.tokens import NAME, SUBJECT, YEAR, Line, Subjects, lines, plain_title

_NEARLY, _LIST, _LIST_LIKE, _EDGE = 0.93, 6, 2, 4
_BETWEEN = 4
"""Words and marks between the two years of a term."""
_TEXT = 8 << 20
"""Characters of publishers that are read at once, where one has not more."""
Relation = tuple[str, str, int]
"""A publisher, its wording, and the number of the slot."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A value, `text`, bytes `start:end` of a document, in a sentence, bytes `line_start:line_end`: what a publisher
    says of `subject`; `relation` is what relates the two, and `year` the year or the role to which this belongs."""

    source: str
    doc_sha: str
    relation: Relation
    published: str
    line_start: int
    line_end: int
    start: int
    end: int
    text: str
    subject: str
    year: str

    @property
    def publisher(self) -> str:
        """Who says it."""
        return self.relation[0]

    @property
    def reading(self) -> Reading:
        """What the value says."""
        return read(self.text)


class _Page:
    """A document with what is known of it as a whole."""

    def __init__(self, document: Document, title: str):
        self.document, self.title, self.sha = document, title, document.sha
        wide = np.frombuffer(document.text.encode("utf-32-le"), np.uint32)
        self._wide = np.flatnonzero(wide > 0x7F).astype(np.uint32)
        more = 1 + (wide[self._wide] > 0x7FF) + (wide[self._wide] > 0xFFFF).astype(np.uint32)
        self._more = np.concatenate([[0], np.cumsum(more)]).astype(np.uint32)

    def byte(self, at: int) -> int:
        """Where character `at` begins in UTF-8."""
        return at + int(self._more[np.searchsorted(self._wide, at)])


@dataclass(frozen=True, slots=True)
class _Instance:
    """Sentence `at` of `lines`, which stands on a page, with its slots as ranges of tokens."""

    page: _Page
    lines: Lines
    at: int
    slots: tuple[tuple[int, int], ...]

    @property
    def heading(self) -> str:
        return self.lines.heading(self.at)

    def span(self, slot: int) -> tuple[int, int]:
        return self.lines.span(self.at, *self.slots[slot])

    def form(self, slot: int) -> str:
        return self.lines.form(self.at, self.slots[slot][0])

    def text(self, slot: int) -> str:
        start, end = self.span(slot)
        return self.page.document.text[start:end]


def all_statements(documents: Iterable[Document], survey: Survey) -> list[Statement]:
    """What all publishers state in wordings that they repeat, each in its own. `documents` are gone through several
    times; in memory are those of one publisher, or of several small ones, and all that is stated."""
    statements: list[Statement] = []
    for together in _together(documents):
        by_publisher: dict[str, list[Document]] = {name: [] for name in together}
        for document in documents:
            if document.publisher in by_publisher:
                by_publisher[document.publisher].append(document)
        while by_publisher:
            name = min(by_publisher)
            statements += publisher_statements(by_publisher.pop(name), survey)
    return statements


def _together(documents: Iterable[Document]) -> Iterator[list[str]]:
    """All publishers, in order, so many at a time that their texts are not large."""
    sizes: Counter[str] = Counter()
    for document in documents:
        sizes[document.publisher] += len(document.text)
    together: list[str] = []
    for name in sorted(sizes):
        if together and sum(sizes[one] for one in together) + sizes[name] > _TEXT:
            yield together
            together = []
        together.append(name)
    yield together


def publisher_statements(documents: Iterable[Document], survey: Survey) -> list[Statement]:
    """What one publisher states in wordings that it repeats. `documents` are all that it published, in any order."""
    frames = _frames(sorted(documents, key=lambda document: document.source), survey)
    return [statement for frame in sorted(frames) for statement in _state(frame, frames[frame], survey)]


def _frames(documents: Sequence[Document], survey: Survey) -> dict[tuple[str, ...], list[_Instance]]:
    owners: list[_Page] = []
    found = Lines()
    pages: list[tuple[str, str]] = []
    for document in documents:
        title = survey.subject(document)
        page = _Page(document, title)
        sections: dict[str, list[Line]] = defaultdict(list)
        for line in lines(document, (plain_title(document.title), title), survey.subjects, survey.words):
            sections[line.heading].append(line)
        for heading, section in sections.items():
            owners += [page] * len(section)
            for line in section:
                found.add(line)
            about = _about(document, f"{title}/{heading}", section, survey.subjects)
            pages += [(document.published, name) for name in about]
    frames: dict[tuple[str, ...], list[_Instance]] = defaultdict(list)
    for at, (page, placed) in enumerate(zip(owners, place(found, pages), strict=True)):
        if placed and placed.slots:
            frames[placed.frame].append(_Instance(page, found, at, placed.slots))
    return frames


def _about(document: Document, page: str, section: Sequence[Line], subjects: Subjects) -> list[str]:
    """What each sentence of a section is about: its `page`; or, where a section goes through many subjects in the same
    wording, the sentence's own."""
    forms = [line.forms for line in section]
    if len(section) < _LIST or len(section) < _LIST_LIKE * min(
        len({form[:_EDGE] for form in forms}), len({form[-_EDGE:] for form in forms})
    ):
        return [page] * len(section)
    return [_first_name(document, line, subjects) or page for line in section]


def _first_name(document: Document, line: Line, subjects: Subjects) -> str:
    """The first name in a sentence that a page is about, else the first name."""
    spans = (line.span(at, at + 1) for at, form in enumerate(line.forms) if form in (NAME, SUBJECT))
    names = [plain_title(document.text[start:end]) for start, end in spans]
    return next((name for name in names if name in subjects), names[0] if names else "")


def _state(frame: tuple[str, ...], told: list[_Instance], survey: Survey) -> list[Statement]:
    """The statements of one wording."""
    slots = [slot for slot in range(len(told[0].slots)) if not _constant(told, slot)]
    years = [slot for slot in slots if _is_year(told, slot)]
    stamps = [slot for slot in years if _stamps(told, slot)]
    slots = [slot for slot in slots if slot not in stamps]
    years = [slot for slot in years if slot not in stamps and len(slots) > 1]
    chosen = _subject(told, slots, years, survey.subjects)
    if chosen is None:
        return []
    name, taken, beside = chosen
    values = [slot for slot in slots if slot not in (*taken, *beside)]
    if not set(years) & set(beside) and len(values) > 1 and set(years) & set(values):
        beside = [*beside, next(slot for slot in values if slot in years)]
        values.remove(beside[-1])
    belongs = dict.fromkeys(values, beside)
    if _is_term(told, slots, years) and years[0] in beside and years[1] in values:
        belongs[years[0]] = [*(slot for slot in beside if slot != years[0]), years[1]]
    found = []
    relations = {slot: (told[0].page.document.publisher, " ".join(frame), slot) for slot in belongs}
    for one in told:
        document, byte = one.page.document, one.page.byte
        about = sys.intern(subject_of(name(one), survey.usual))
        line_start, line_end = map(byte, one.lines.place(one.at))
        for slot, others in belongs.items():
            when = sys.intern(" ".join(one.text(other) for other in others))
            start, end = map(byte, one.span(slot))
            found.append(
                Statement(
                    document.source, one.page.sha, relations[slot], document.published, line_start, line_end, start,
                    end, sys.intern(one.text(slot)), about, when,
                )
            )  # fmt: skip
    return found


def _subject(
    told: list[_Instance], slots: list[int], years: list[int], subjects: Subjects
) -> tuple[Callable[[_Instance], str], list[int], list[int]] | None:
    """What a wording is about, the slot that says so, and the slot of the year or the role that is told besides; None
    where its sentences cannot be told apart."""
    options: list[tuple[Callable[[_Instance], str], list[int]]] = [(lambda one: one.page.title, [])]
    if any(one.heading for one in told):
        options.append((lambda one: one.heading, []))
    named = [slot for slot in slots if _is_name(told, slot)]
    known = {slot: sum(plain_title(one.text(slot)) in subjects for one in told) for slot in named}
    for slot in sorted(named, key=lambda slot: (-known[slot], slot)):
        if len(slots) > 1:
            options.append((lambda one, slot=slot: plain_title(one.text(slot)), [slot]))  # type: ignore[misc]
    roles = [slot for slot in named if len(slots) > 2 or not years]
    extras: list[list[int]] = [[], *([year] for year in years), *([role] for role in roles)]
    tried = [(*option, extra) for extra in extras for option in options]
    tried += [(lambda one: f"{one.page.title} {one.heading}", [], [year]) for year in years]
    for name, taken, extra in tried:
        if (
            not set(taken) & set(extra)
            and len(slots) - len(taken) - len(extra) > 0
            and _tells_apart(told, name, extra)
        ):
            return name, taken, extra
    return None


def _tells_apart(told: list[_Instance], name: Callable[[_Instance], str], extra: list[int]) -> bool:
    names = [name(one) for one in told]
    if not all(names):
        return False
    keys = {
        (one.page.document.published, called, *(one.text(slot) for slot in extra))
        for one, called in zip(told, names, strict=True)
    }
    return len(keys) >= _NEARLY * len(told)


def _constant(told: list[_Instance], slot: int) -> bool:
    ((_, most),) = Counter(one.text(slot) for one in told).most_common(1)
    return (most > _NEARLY * len(told) and len(told) > most) or most == len(told)


def _is_year(told: list[_Instance], slot: int) -> bool:
    return all(one.form(slot) == YEAR for one in told)


def _is_term(told: list[_Instance], slots: list[int], years: list[int]) -> bool:
    """Whether two years stand by each other, the earlier one first, as in "from 1999 to 2003", and no number besides:
    then both say something of the subject, each as far as the other is the same: another term is no error."""
    if len(years) != 2 or any(_is_number(told, slot) for slot in slots if slot not in years):
        return False
    (_, first_ends), (last_begins, _) = (told[0].slots[slot] for slot in years)
    ordered = sum(one.text(years[0]) <= one.text(years[1]) for one in told)
    return 0 <= last_begins - first_ends <= _BETWEEN and ordered >= _NEARLY * len(told)


def _is_number(told: list[_Instance], slot: int) -> bool:
    return 2 * sum(read(one.text(slot)).numeric for one in told) > len(told)


def _is_name(told: list[_Instance], slot: int) -> bool:
    return all(one.form(slot) == NAME for one in told)


def _stamps(told: list[_Instance], slot: int) -> bool:
    """Whether every edition has its own year there, as a date stamp does."""
    editions: dict[str, Counter[str]] = defaultdict(Counter)
    for one in told:
        editions[one.page.document.published][one.text(slot)] += 1
    return sum(max(years.values()) for years in editions.values()) >= _NEARLY * len(told)
