"""Dates that a calendar can check: weekdays, impossible days, ages at death, years between two years, ends before
starts. Weekdays are those of the Gregorian calendar, and judged only since every country has used it."""

import re
from calendar import monthrange
from collections.abc import Iterator
from datetime import date

from troth.curate.validate.verifiers.exact import Checked, agree, differ, hedged

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_GREGORIAN_EVERYWHERE = 1927
_MONTH, _DAY = rf"(?:{'|'.join(_MONTHS)})", rf"(?:{'|'.join(_DAYS)})"
_YEAR = r"(?:1[0-9]|20)\d\d"


def _date(i: int) -> str:
    return (
        rf"(?:(?P<d{i}>\d{{1,2}})(?:st|nd|rd|th)? (?P<m{i}>{_MONTH}),? (?P<y{i}>{_YEAR})"
        rf"|(?P<M{i}>{_MONTH}) (?P<D{i}>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<Y{i}>{_YEAR}))(?!\d)"
    )


_WEEKDAY_FIRST = re.compile(rf"\b(?P<w>{_DAY}),? (?:the )?{_date(1)}")
_WEEKDAY_LAST = re.compile(rf"{_date(1)}(?:,? (?:was|is|fell on|falls on|will be)(?: a)? |, a | \()(?P<w>{_DAY})\b")
_DAY_OF_MONTH = re.compile(
    rf"\b(?:(?P<m1>{_MONTH}) (?P<d1>\d{{1,2}})(?!\d|[-–:,.]\d| ?%| (?:percent|years|people|million))"
    rf"(?:,? (?P<y1>{_YEAR})(?!\d))?"
    rf"|(?P<d2>\d{{1,2}}) (?P<m2>{_MONTH})(?:,? (?P<y2>{_YEAR})(?!\d))?)"
)
_BORN = re.compile(
    rf"\bborn (?:[A-Z]\w+ )*(?:(?:on|in) )?(?:[A-Z][\w ,]*?(?:,? (?:on|in) ))?(?:{_date(1)}|(?P<yy1>{_YEAR})\b)"
)
_DIED = re.compile(
    rf"\bdied (?:(?:on|in) )?(?:(?:[A-Z][\w ,]*?)(?:,? (?:on|in) ))?(?:{_date(2)}|(?P<yy2>{_YEAR})\b),? "
    r"(?:at the age of |at age |aged |age )(?P<age>\d{1,3})\b"
)
_DIED_AGED = re.compile(
    rf"\bdied,? (?:at the age of |at age |aged |age )(?P<age>\d{{1,3}}),? (?:on|in) (?:{_date(2)}|(?P<yy2>{_YEAR})\b)"
)
_LIFE = re.compile(rf"\((?:born |b\. )?{_date(1)} ?[-–—] ?(?:died |d\. )?{_date(2)}\)")
_LATER = re.compile(
    rf"\b[Ii]n (?P<a>{_YEAR})\b(?P<between>[^.;:]{{0,80}}?)\b(?P<n>\d{{1,3}}) years later,? in (?P<b>{_YEAR})\b"
)
_LASTED = re.compile(
    rf"\bfrom (?P<a>{_YEAR}) (?:to|until|till) (?P<b>{_YEAR})(?:,| \()? ?"
    r"(?:for |lasting |a (?:total|period|span|reign) of |or |which is )?(?P<n>\d{1,3}) years"
    r"(?! (?:old|of age|later|before|after|earlier))\b"
)
_FROM_TO = re.compile(
    rf"\b(?:reigned|ruled|lasted|served|governed|lived|worked|played|was fought|president|king|queen) "
    rf"from (?P<a>{_YEAR}) (?:to|until|till) (?P<b>{_YEAR})\b"
)
_OTHER_ERA = re.compile(r"\bB\.?C|\bAH\b|\bJulian\b|\bO\.?S\.\b|calendar|\bcirca\b|\bc\. ?\d|\bca\. ?\d|\?")
_NEAR = re.compile(r"\b(?:about|around|nearly|almost|some|over|more than|approximately|roughly) $")
_WORTH_READING = re.compile(rf"\b(?:{_MONTH}|died|born|years later|from {_YEAR})\b")


def dates(text: str) -> Iterator[Checked]:
    """What a calendar says of the dates, ages and spans of a sentence."""
    if not _WORTH_READING.search(text) or hedged(text) or _OTHER_ERA.search(text):
        return
    yield from _weekdays(text)
    yield from _impossible_days(text)
    yield from _ages(text)
    yield from _spans(text)


def _weekdays(text: str) -> Iterator[Checked]:
    for pattern in (_WEEKDAY_FIRST, _WEEKDAY_LAST):
        for match in pattern.finditer(text):
            day = _day(match, 1)
            if day is None or day.year < _GREGORIAN_EVERYWHERE:
                continue
            right = _DAYS[day.weekday()]
            note = f"{day.day} {_MONTHS[day.month - 1]} {day.year} is a {right}"
            start, end = match.span("w")
            # Which of the two is wrong, the date or its weekday, cannot be told.
            yield agree(start, end, note) if match["w"] == right else differ(start, end, right, note, 0.8)


def _impossible_days(text: str) -> Iterator[Checked]:
    for match in _DAY_OF_MONTH.finditer(text):
        i = 1 if match["m1"] else 2
        month, day = _MONTHS.index(match[f"m{i}"]) + 1, int(match[f"d{i}"])
        year = int(match[f"y{i}"] or 2000)
        verb = match[f"m{i}"] == "May" and not match[f"y{i}"]
        if verb or text[: match.start()].endswith(("-", "–", ".", ",", "/")):
            continue
        last = monthrange(year, month)[1]
        if year < 1900 and last == 28:
            last = 29  # Julian leap years.
        if day > last:
            start, end = match.span(f"d{i}")
            where = f"{match[f'm{i}']} {match[f'y{i}']}" if match[f"y{i}"] else match[f"m{i}"]
            if day <= 31 or match[f"y{i}"]:
                yield differ(start, end, "", f"{where} has {last} days")


def _ages(text: str) -> Iterator[Checked]:
    deaths = [*_DIED.finditer(text), *_DIED_AGED.finditer(text)]
    births = [*_BORN.finditer(text)]
    lives = [*_LIFE.finditer(text)]
    if len(lives) == 1:
        first, last = _day(lives[0], 1), _day(lives[0], 2)
        if first and last and last < first and last.year > 1582:
            yield differ(*lives[0].span("y2" if lives[0]["y2"] else "Y2"), "", f"{last} is before {first}", 0.7)
    if len(deaths) != 1 or len(births) + len(lives) != 1:
        return
    birth, death = (births or lives)[0], deaths[0]
    first, last, age = _day(birth, 1), _day(death, 2), int(death["age"])
    if first and last:
        years = last.year - first.year - ((last.month, last.day) < (first.month, first.day))
        possible = [years]
    else:
        years = _year(death, 2) - _year(birth, 1)
        possible = [years, years - 1]
    if years < 0:
        return
    note = f"from {first or _year(birth, 1)} to {last or _year(death, 2)} are {' or '.join(map(str, possible))} years"
    if age in possible:
        yield agree(*death.span("age"), note)
    else:
        yield differ(*death.span("age"), str(years) if len(possible) == 1 else "", note, 0.8)


def _spans(text: str) -> Iterator[Checked]:
    for pattern in (_LATER, _LASTED):
        for match in pattern.finditer(text):
            if pattern is _LATER and re.search(r"\d{4}", match["between"]):
                continue
            years, stated = int(match["b"]) - int(match["a"]), int(match["n"])
            if years <= 0:
                continue
            note = f"from {match['a']} to {match['b']} are {years} years"
            if abs(years - stated) <= 1:
                yield agree(*match.span("n"), note)
            elif not _NEAR.search(text[: match.start("n")]):
                yield differ(*match.span("n"), str(years), note, 0.8)
    for match in _FROM_TO.finditer(text):
        if int(match["b"]) < int(match["a"]):
            yield differ(*match.span("b"), "", f"{match['b']} is before {match['a']}", 0.6)


def _day(match: re.Match[str], i: int) -> date | None:
    groups = match.groupdict()
    month, day, year = (groups.get(f"{lower}{i}") or groups.get(f"{lower.upper()}{i}") for lower in "mdy")
    if not month or not day or not year:
        return None
    try:
        return date(int(year), _MONTHS.index(month) + 1, int(day))
    except ValueError:
        return None


def _year(match: re.Match[str], i: int) -> int:
    groups = match.groupdict()
    return int(groups.get(f"yy{i}") or groups.get(f"y{i}") or groups[f"Y{i}"])
