"""The time that a sentence gives for what it states."""

import re

from troth.curate.memory import remembered

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)"
)
_DAY = rf"(?:\d{{1,2}}(?:st|nd|rd|th)? {_MONTH}|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?|{_MONTH})"
_YEAR = r"(?:1\d{3}|20\d{2})"
_POINT = (
    rf"(?:the )?(?:(?:early|late|mid)[ -])?"
    rf"(?:{_DAY},? {_YEAR}\b(?!s)|{_YEAR}s?\b|\d{{1,2}}(?:st|nd|rd|th)[ -]century\b)"
)
_SPAN = re.compile(
    rf"\b(?:from |between )(?P<a>{_POINT})(?: to | until | till | through | and |[-–—])(?P<b>{_POINT})"
    rf"|(?P<c>\b{_YEAR})[-–—](?P<d>{_YEAR}\b)",
    re.IGNORECASE,
)
_SIDE = re.compile(
    rf"\b(?:(?P<open>since|from|after|as of|starting in|beginning in)|(?P<shut>until|till|up to|before)) "
    rf"(?P<at>{_POINT})",
    re.IGNORECASE,
)
_AT = re.compile(rf"\b(?:in|on|during|by|of|at) (?P<at>{_POINT})(?! \w*(?:people|met|kilo|mile|ton))", re.IGNORECASE)
_PRESENT = re.compile(
    r"\b(?:is|are|has|have|stands?|holds?|remains?|lives?|counts?|contains?|belongs?|serves?|covers?|exports?|borders?)\b"
)
_PAST = re.compile(r"\b(?:was|were|had|did)\b")


@remembered(1024)  # each sentence is asked about once a value
def valid_time(sentence: str, published: str) -> tuple[str, str]:
    """From when and until when a sentence's statement holds by its own words, as ISO dates; empty where it is open.

    A point in time is both, a year of it the whole year. What is said in the present tense and names no time holds from
    the day on which it was said, `published`.
    """
    if span := _SPAN.search(sentence):
        first, last = (span["a"], span["b"]) if span["a"] else (span["c"], span["d"])
        return _bounds(first)[0], _bounds(last)[1]
    if side := _SIDE.search(sentence):
        start, end = _bounds(side["at"])
        return (start, "") if side["open"] else ("", end)
    if point := _AT.search(sentence):
        return _bounds(point["at"])
    present = _PRESENT.search(sentence) and not _PAST.search(sentence)
    return (published, "") if present else ("", "")


def _bounds(point: str) -> tuple[str, str]:
    """ISO dates of the first and the last day, month or year that a point in time means."""
    point = point.lower()
    if century := re.search(r"(\d{1,2})(?:st|nd|rd|th)[ -]century", point):
        last = int(century[1]) * 100
        return f"{last - 99:04d}", f"{last:04d}"
    year = re.search(_YEAR, point)
    assert year
    if point.endswith("s"):
        return year[0], f"{int(year[0]) + (99 if year[0].endswith('00') else 9):04d}"
    month = re.search(_MONTH, point)
    if not month:
        return year[0], year[0]
    day = re.search(r"\b(\d{1,2})(?:st|nd|rd|th)?\b", point[: year.start()])
    written = f"{year[0]}-{_MONTHS.index(month[0][:3]) + 1:02d}" + (f"-{int(day[1]):02d}" if day else "")
    return written, written
