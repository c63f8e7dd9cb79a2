"""Which judge has the last word on a value: timelines, where they have found something."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from troth.curate.records import Finding, OccurrenceRow

Span = tuple[int, int]


def with_timelines(findings: Iterable[Finding], timed: Sequence[Finding]) -> list[Finding]:
    """The findings in a document, those of timelines in place of others about the same value, and in place of all about
    the same sentence where two publishers stand behind it, for whoever confirms what it says of its subject confirms
    the subject."""
    timed = [one for one in timed if one.stance != "not_enough_evidence"]
    spans = list(spoken_of(timed))
    return list(chain((one for one in findings if not overlaps(one, spans)), timed))


def spoken_of(timed: Iterable[Finding]) -> Iterator[Span]:
    """Bytes of a document on which timelines have the last word."""
    for one in timed:
        if one.stance != "not_enough_evidence":
            yield one.object_start, one.object_end
            if one.agreed_by or one.stance == "refuted":
                yield one.byte_start, one.byte_end


def overlaps(place: OccurrenceRow, spans: Iterable[Span]) -> bool:
    """Whether a value lies in one of some spans, in part or as a whole."""
    return any(place.object_start < end and start < place.object_end for start, end in spans)
