"""Where there is little to judge, the report says so and why."""

import pytest

from troth.curate.pipeline import Curation, curate
from troth.curate.validate.caveat import caveat
from troth.system import CurateTable

BRIDGE = "The bridge over the river was built in {year} by Anna Berg, and it is 300 metres long."
SHORT = {"rules": "none", "min_words": 0}
LAKE = "Nobody knows how deep the water is, and nobody ever went there to find it out."
SWIMMERS = "It is cold, and who swims in it does so early in the day and not for long."
TWO = (BRIDGE.format(year=1907), BRIDGE.format(year=1909))


@pytest.mark.parametrize(
    ("notes", "settings", "told"),
    [
        (TWO, {}, "no document is left"),
        (TWO[:1], SHORT, "no collection has two publishers"),
        ((LAKE, SWIMMERS), SHORT, "no sentence states"),
        (TWO, SHORT, "verdicts mean little here: 0 of the errors"),
    ],
    ids=["too short", "one voice", "no claim", "two notes"],
)
def test_a_few_notes_are_told_what_they_lack(tmp_path, notes, settings, told):
    (tmp_path / "notes").mkdir()
    for number, text in enumerate(notes):
        (tmp_path / "notes" / f"{number}.txt").write_text(text, encoding="utf-8")
    report = curate(Curation((str(tmp_path / "notes"),), tmp_path / "out", CurateTable(**settings)))
    assert report["caveat"].startswith(told)


def test_a_run_that_was_measured_has_none():
    assert caveat(documents=100, judged=True, claims=5000, planted=200) == ""
