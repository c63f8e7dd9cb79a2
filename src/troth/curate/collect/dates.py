"""Dates as people and programs write them, to ISO."""

import re
from datetime import date

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_NAME = r"(?P<month>(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*)\.?"
_ISO = re.compile(r"(?P<y>[12]\d{3})(?:[-/](?P<m>\d{1,2})(?:[-/](?P<d>\d{1,2}))?)?(?![\d-])")
_PDF = re.compile(r"(?:D:)?(?P<y>[12]\d{3})(?P<m>\d\d)(?P<d>\d\d)")
_DAY_FIRST = re.compile(
    rf"(?:[a-z]+,?\s+)?(?:(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\s+)?{_NAME},?\s+(?P<y>[12]\d{{3}})", re.IGNORECASE
)
_MONTH_FIRST = re.compile(
    rf"(?:[a-z]+,?\s+)?{_NAME}\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y>[12]\d{{3}})", re.IGNORECASE
)


def iso_date(text: str) -> str:
    """`2021`, `2021-03`, `2021-03-12` or empty, from an ISO date or time, a PDF date, or English such as `12 March
    2021` and `March 12, 2021`. A date that no calendar has, or that could be read in two ways, gives empty."""
    text = text.strip()
    for pattern in (_PDF, _ISO, _MONTH_FIRST, _DAY_FIRST):
        match = pattern.match(text)
        if not match:
            continue
        parts = match.groupdict()
        month = _MONTHS.index(parts["month"][:3].lower()) + 1 if parts.get("month") else int(parts["m"] or 0)
        return _written(int(parts["y"]), month, int(parts["d"] or 0))
    return ""


def _written(year: int, month: int, day: int) -> str:
    try:
        whole = date(year, month or 1, day or 1).isoformat()
    except ValueError:
        return ""
    return whole[: 10 if day else 7 if month else 4]
