"""What a sentence states of an object in it: of whom (subject), in which respect (relation), where, and when."""

import re
import unicodedata

from troth.curate.document import Document
from troth.curate.records import ClaimRow, short_hash
from troth.curate.validate.nature import is_checkworthy, nature_of
from troth.curate.validate.when import valid_time

BLANK = "…"
"""Stands for the object in a relation."""
_NAME = re.compile(r"(?:[A-Z][\w'’.-]*\w)(?:(?: (?:of|de|la|le|du|da|van|von|and|the)){0,2} [A-Z][\w'’.-]*\w)*")
_PLAIN = str.maketrans("‘’“”–—", "''\"\"--")
_PRONOUN = re.compile(r"^(?:It|He|She|They|Its|His|Her|Their|This|These|That|There)\b")
_PLACE = re.compile(
    r"\b(?:in|at|near|across|throughout|outside|inside|within|around) (?:the )?"
    r"((?:[A-Z][\w'’-]*\w)(?:(?: (?:of|de|la|le|du|da|and|the)){0,2} [A-Z][\w'’-]*\w)*)"
)
_TIMES = re.compile(
    r"^(?:January|February|March|April|May|June|July|August|September|October|November|December|"
    r"Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)\b"
)


def canonical(text: str) -> str:
    """The same words in one form, whatever their case, blanks, quotes and dashes."""
    text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    return " ".join(text.lower().split()).rstrip(".")


def claim_row(document: Document, sentence: str, start: int, end: int, kind: str) -> ClaimRow:
    """The claim that characters `start` to `end` of a sentence are its object; `kind` is that of the object.

    The subject is the first name that is not the object, or the page's title where the sentence has none before the
    object or opens with a pronoun. `claim_id` is a hash of the canonical text with the object marked, and of the
    subject, time and place, so that the same words about another subject are another claim.
    """
    subject = subject_of(document, sentence, start, end)
    place = place_of(sentence, start, end)
    since, until = valid_time(sentence, document.published)
    marked = f"{sentence[:start]}[{sentence[start:end]}]{sentence[end:]}"
    return ClaimRow(
        claim_id=short_hash(canonical(marked), canonical(subject), since, until, canonical(place)),
        text=sentence,
        subject=subject,
        relation=f"{sentence[:start]}{BLANK}{sentence[end:]}",
        object=sentence[start:end],
        kind=kind,
        valid_from=since,
        valid_to=until,
        place=place,
        nature=nature_of(sentence),
        checkworthy=is_checkworthy(sentence),
    )


def subject_of(document: Document, sentence: str, start: int, end: int) -> str:
    """Of whom or what a sentence speaks, as far as its capitals and the page's title tell."""
    title = document.title.strip()
    if title and (_PRONOUN.match(sentence) or title.lower() in sentence.lower()):
        return title
    for name in _NAME.finditer(sentence):
        opens = name.start() == 0 and " " not in name.group()
        if (name.end() <= start or name.start() >= end) and not _TIMES.match(name.group()) and not opens:
            return name.group()
    return title


def place_of(sentence: str, start: int, end: int) -> str:
    """The last name that follows a word of place and is not the object; empty for none."""
    found = [
        place[1] for place in _PLACE.finditer(sentence)
        if (place.end(1) <= start or place.start(1) >= end) and not _TIMES.match(place[1])
    ]  # fmt: skip
    return found[-1] if found else ""
