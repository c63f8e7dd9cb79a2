"""Figures of planted errors, with their intervals, and the gate that they guard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.curate.validate.canaries import Canary, measure, objection, share


def canaries(caught: int, missed: int, alarms: int, quiet: int) -> list[Canary]:
    wrong = [Canary("c", "number moved", True, at % 2 == 0) for at in range(caught)]
    wrong += [Canary("c", "entity swapped", False, False)] * missed
    return wrong + [Canary("c", "", True, False)] * alarms + [Canary("c", "", False, False)] * quiet


def test_figures_of_a_run():
    found = measure(canaries(80, 20, 1, 999), rate=0.1)
    assert (found.recall.share, found.exactness.share, found.false_alarms.share) == (0.8, 0.5, 0.001)
    assert found.precision == pytest.approx(0.08 / (0.08 + 0.0009))
    assert found.precision_low < found.precision < found.precision_high
    assert {kind: one.share for kind, one in found.by_kind.items()} == {"number moved": 1.0, "entity swapped": 0.0}


def test_an_interval_is_wilsons():
    found = share(8, 10)
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


@given(st.integers(0, 50), st.integers(0, 50))
def test_an_interval_holds_its_share_and_stays_within_bounds(count, more):
    found = share(count, count + more)
    assert 0 <= found.low <= found.share + 1e-12
    assert found.share - 1e-12 <= found.high <= 1


def test_a_run_of_too_many_false_alarms_is_objected_to():
    assert objection(measure(canaries(8, 2, 1, 999), 0.1), max_false_alarms=0.002) == ""
    assert "5 of 1000 claims" in objection(measure(canaries(8, 2, 5, 995), 0.1), max_false_alarms=0.002)


def test_nothing_planted_gives_no_figures_and_no_objection():
    assert objection(measure([], 0.1), 0.002) == ""
