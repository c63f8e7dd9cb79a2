"""Of whom sentences speak, as far as timelines found out: this binds every judge.

A page's title or a heading often names the subject of sentences that do not name it themselves. Two sentences of
different subjects never testify for or against each other, however alike they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, TypeVar

from troth.curate.document import Document


class Placed(Protocol):
    """A row about a place in a document."""

    @property
    def source_id(self) -> str:
        """The document's source."""
        ...


P = TypeVar("P", bound=Placed)


@dataclass(frozen=True)
class SubjectRow:
    """Bytes `byte_start:byte_end` of a document speak of `subject`, which includes the year of which they do."""

    source_id: str
    byte_start: int
    byte_end: int
    subject: str


def beside(documents: Iterable[Document], rows: Iterable[P]) -> Iterator[tuple[Document, list[P]]]:
    """Each document with the rows about it; rows come in the order of the documents, which several may lack.

    Raises ValueError where a row belongs to none of the documents that follow.
    """
    groups = groupby(rows, key=lambda row: row.source_id)
    source, group = next(groups, ("", iter(())))
    for document in documents:
        if document.source == source:
            yield document, list(group)
            source, group = next(groups, ("", iter(())))
        else:
            yield document, []
    if source:
        raise ValueError(f"{source}: has rows, but is not among the documents of its part")


def subject_at(rows: Sequence[SubjectRow], start: int, end: int) -> str:
    """The one subject that bytes `start:end` of a document speak of; empty where there is none or several."""
    found = {row.subject for row in rows if row.byte_start < end and start < row.byte_end}
    return found.pop() if len(found) == 1 else ""


def names_subject(subject: str, words: str) -> bool:
    """Whether a text is what a subject is called, or a part of it."""
    return bool(subject) and set(words.lower().split()) <= set(subject.split())
