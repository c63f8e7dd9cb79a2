"""When figures are from, as it stands in parentheses behind them: 3.2 million (2018 est.)."""

import re

from troth.curate.validate.values import SPELLED

MONTHS = (
    "January|February|March|April|May|June|July|August|September|October|November|December|"
    "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
)
NOTE = re.compile(
    rf"(?P<figure>(?:\d|\b{SPELLED.pattern}\b)[^.;()\d]{{0,30}}?) "
    rf"\((?:(?:about|as of|in|FY|{MONTHS})\.? ?)?(?:1\d|20)\d\d(?:/\d\d)?(?: est\.?)?\)"
)
_YEAR = re.compile(r"(?:1\d|20)\d\d")


def years_of_notes(text: str) -> frozenset[str]:
    """The years that its figures are from."""
    return frozenset(
        year for note in NOTE.finditer(text) for year in _YEAR.findall(text[note.end("figure") : note.end()])
    )
