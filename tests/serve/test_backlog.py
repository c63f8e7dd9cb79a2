"""How long a new prompt would wait, by what has been seen."""

import pytest

from troth.serve.engine.backlog import Backlog


def test_nothing_is_expected_before_anything_is_seen():
    assert Backlog().seconds(1000) == 0


def test_time_without_progress_counts():
    backlog = Backlog()
    backlog.add(tokens=100, seconds=0.1)
    assert backlog.seconds(1000) == pytest.approx(1)
    backlog.add(tokens=0, seconds=0.1)
    assert backlog.seconds(1000) == pytest.approx(2, rel=0.01)


def test_what_was_long_ago_fades():
    backlog = Backlog()
    backlog.add(tokens=10, seconds=10)
    for _ in range(600):
        backlog.add(tokens=100, seconds=0.1)
    assert backlog.seconds(1000) == pytest.approx(1, rel=0.1)
