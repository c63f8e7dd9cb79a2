from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.curate.collect.dates import iso_date


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2021-03-12", "2021-03-12"),
        ("2021-03-12T08:15:00+02:00", "2021-03-12"),
        ("2021/3/2", "2021-03-02"),
        ("2021-03", "2021-03"),
        ("2021", "2021"),
        ("D:20210312101500+01'00'", "2021-03-12"),
        ("12 March 2021", "2021-03-12"),
        ("Fri, 12 Mar 2021 08:00:00 GMT", "2021-03-12"),
        ("March 12th, 2021", "2021-03-12"),
        ("Dec.  3 2021", "2021-12-03"),
        ("March 2021", "2021-03"),
        ("03/12/2021", ""),
        ("2021-13-40", ""),
        ("long ago", ""),
        ("", ""),
    ],
)
def test_dates_as_people_write_them(text, iso):
    assert iso_date(text) == iso


@given(st.dates(min_value=date(1000, 1, 1), max_value=date(2999, 12, 31)))
def test_every_day_in_every_notation(day):
    months = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ]
    month = months[day.month - 1]
    for text in (f"{day:%Y%m%d}", day.isoformat(), f"{day.day} {month} {day.year}", f"{month} {day.day}, {day.year}"):
        assert iso_date(text) == day.isoformat()
