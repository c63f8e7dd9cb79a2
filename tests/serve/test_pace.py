"""How long a new prompt would wait, by what has been seen."""

import pytest

from troth.serve.engine.pace import Pace


def test_nothing_is_expected_before_anything_is_seen():
    assert Pace().seconds(1000) == 0


def test_time_without_progress_counts():
    pace = Pace()
    pace.add(tokens=100, seconds=0.1)
    assert pace.seconds(1000) == pytest.approx(1)
    pace.add(tokens=0, seconds=0.1)
    assert pace.seconds(1000) == pytest.approx(2, rel=0.01)


def test_what_was_long_ago_fades():
    pace = Pace()
    pace.add(tokens=10, seconds=10)
    for _ in range(600):
        pace.add(tokens=100, seconds=0.1)
    assert pace.seconds(1000) == pytest.approx(1, rel=0.1)
