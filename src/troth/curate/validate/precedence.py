"""Which judge has the last word on a value: timelines, where they have found something."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from troth.curate.records import Finding, OccurrenceRow, TimedFinding

Span = tuple[int, int]


def with_timelines(findings: Iterable[Finding], timed: Sequence[TimedFinding]) -> list[Finding]:
    """The findings in a document, those of timelines in place of others about the same value, and in place of all about
    the same sentence where two publishers stand behind it, for whoever confirms what it says of its subject confirms
    the subject."""
    spans = list(spoken_of(timed))
    return list(chain((one for one in findings if not overlaps(one, spans)), timed))


def spoken_of(timed: Iterable[TimedFinding]) -> Iterator[Span]:
    """Bytes of a document on which timelines have the last word: what they decided, and what they could not decide
    although others speak of it, for whoever does not know what was said when knows less."""
    for one in timed:
        if one.stance != "not_enough_evidence" or one.heard:
            yield one.object_start, one.object_end
        if one.stance == "refuted" or (one.agreed_by and one.stance == "supported"):
            yield one.byte_start, one.byte_end


def overlaps(place: OccurrenceRow, spans: Iterable[Span]) -> bool:
    """Whether a value lies in one of some spans, in part or as a whole."""
    return any(place.object_start < end and start < place.object_end for start, end in spans)
