"""From documents to statements: in a wording that comes back, what is spoken of, and what is said of it.

The subject is the coarsest context that makes a wording occur once an edition: the page's title, else the heading, else
a name in the sentence; where figures of several years stand side by side, the year is part of it. A year that moves
along with the editions' dates is a date stamp and says nothing. What is left in the slots are the values.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from troth.curate.document import Document
from troth.curate.validate.slots.frames import place
from troth.curate.validate.slots.readings import Reading, read
from troth.curate.validate.slots.tokens import NAME, SUBJECT, YEAR, Line, Subjects, Words, headings, lines, plain_title

_NEARLY, _MOST, _FEW_TITLES, _LIST, _LIST_LIKE, _EDGE = 0.93, 0.5, 3, 6, 2, 4
Relation = tuple[str, tuple[str, ...], int]
"""A publisher, its wording, and the number of the slot."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`text`, characters `start:end` of a document, is what a publisher says of `subject` by a relation; `year` is the
    year or the role to which this belongs."""

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
    words, names = Words(), set()
    for document in documents:
        by_publisher[document.publisher].append(document)
        words.add(document.text)
        names |= headings(document)
    usual = set().union(*(_usual(ours) for ours in by_publisher.values()))
    for document in (one for ours in by_publisher.values() for one in ours):
        names |= {plain_title(document.title), subject_of(document.title, usual)}
    subjects = Subjects(names)
    found: list[Statement] = []
    for publisher in sorted(by_publisher):
        frames = _frames(by_publisher[publisher], usual, subjects, words)
        for frame in sorted(frames):
            found += _state(publisher, frame, frames[frame], subjects, usual)
    return found


def _usual(documents: Sequence[Document]) -> set[str]:
    """Words that most titles of a publisher have, so that they say nothing of what a page is about."""
    different = {plain_title(document.title) for document in documents}
    counts = Counter(word for title in different for word in set(title.split()))
    return (
        {word for word, n in counts.items() if n >= _MOST * len(different)} if len(different) >= _FEW_TITLES else set()
    )


def subject_of(title: str, usual: set[str]) -> str:
    """What a title, a heading or a name speaks of: its words in small letters, without the usual ones."""
    plain = plain_title(title)
    return " ".join(word for word in plain.split() if word not in usual) or plain


def _frames(
    documents: Sequence[Document], usual: set[str], subjects: Subjects, words: Words
) -> dict[tuple[str, ...], list[_Instance]]:
    owners: list[tuple[Document, str]] = []
    found: list[Line] = []
    pages: list[str] = []
    for document in documents:
        title = subject_of(document.title, usual)
        about = plain_title(document.title), title
        sections: dict[str, list[Line]] = defaultdict(list)
        for line in lines(document, about, subjects, words):
            sections[line.heading].append(line)
        for heading, section in sections.items():
            owners += [(document, title)] * len(section)
            found += section
            pages += _pages(document, f"{document.published}/{title}/{heading}", section, subjects)
    frames: dict[tuple[str, ...], list[_Instance]] = defaultdict(list)
    for (document, title), line, placed in zip(owners, found, place(found, pages), strict=True):
        if placed and placed.slots:
            frames[placed.frame].append(_Instance(document, line, placed.slots, title))
    return frames


def _pages(document: Document, page: str, section: Sequence[Line], subjects: Subjects) -> list[str]:
    """The page that each sentence belongs to: its section; or, where a section goes through many subjects in the same
    wording, all that the edition says of the sentence's subject."""
    forms = [tuple(token.form for token in line.tokens) for line in section]
    if len(section) < _LIST or len(section) < _LIST_LIKE * min(
        len({form[:_EDGE] for form in forms}), len({form[-_EDGE:] for form in forms})
    ):
        return [page] * len(section)
    return [f"{document.published}/{_first_name(document, line, subjects) or page}" for line in section]


def _first_name(document: Document, line: Line, subjects: Subjects) -> str:
    """The first name in a sentence that a page is about, else the first name."""
    names = [plain_title(document.text[t.start : t.end]) for t in line.tokens if t.form in (NAME, SUBJECT)]
    return next((name for name in names if name in subjects), names[0] if names else "")


def _state(
    publisher: str, frame: tuple[str, ...], told: list[_Instance], subjects: Subjects, usual: set[str]
) -> list[Statement]:
    """The statements of one wording."""
    slots = [slot for slot in range(len(told[0].slots)) if not _constant(told, slot)]
    years = [slot for slot in slots if _is_year(told, slot)]
    stamps = [slot for slot in years if _stamps(told, slot)]
    slots = [slot for slot in slots if slot not in stamps]
    years = [slot for slot in years if slot not in stamps and len(slots) > 1]
    chosen = _subject(told, slots, years, subjects)
    if chosen is None:
        return []
    name, taken, beside = chosen
    values = [slot for slot in slots if slot not in (*taken, *beside)]
    if not set(years) & set(beside) and len(values) > 1 and set(years) & set(values):
        beside = [*beside, next(slot for slot in values if slot in years)]
        values.remove(beside[-1])
    found = []
    for one in told:
        for slot in values:
            start, end = one.span(slot)
            reading = read(one.text(slot))
            when = " ".join(one.text(slot) for slot in beside)
            line = one.line.start, one.line.end
            about = subject_of(name(one), usual)
            found.append(Statement(one.document, line, start, end, (publisher, frame, slot), about, when, reading))
    return found


def _subject(
    told: list[_Instance], slots: list[int], years: list[int], subjects: Subjects
) -> tuple[Callable[[_Instance], str], list[int], list[int]] | None:
    """What a wording is about, the slot that says so, and the slot of the year or the role that is told besides; None
    where its sentences cannot be told apart."""
    options: list[tuple[Callable[[_Instance], str], list[int]]] = [(lambda one: one.title, [])]
    if any(one.line.heading for one in told):
        options.append((lambda one: one.line.heading, []))
    named = [slot for slot in slots if _is_name(told, slot)]
    known = {slot: sum(plain_title(one.text(slot)) in subjects for one in told) for slot in named}
    for slot in sorted(named, key=lambda slot: (-known[slot], slot)):
        if len(slots) > 1:
            options.append((lambda one, slot=slot: plain_title(one.text(slot)), [slot]))  # type: ignore[misc]
    roles = [slot for slot in named if len(slots) > 2 or not years]
    for extra in ([], *([year] for year in years), *([role] for role in roles)):
        for name, taken in options:
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
        (one.document.published, called, *(one.text(slot) for slot in extra))
        for one, called in zip(told, names, strict=True)
    }
    return len(keys) >= _NEARLY * len(told)


def _constant(told: list[_Instance], slot: int) -> bool:
    ((_, most),) = Counter(one.text(slot) for one in told).most_common(1)
    return (most > _NEARLY * len(told) and len(told) > most) or most == len(told)


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
