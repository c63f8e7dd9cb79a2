"""Traffic: reproducible, and with the marks of the traces that it is modelled on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.plan.serving.traffic import Traffic, arrivals, by_hour, sample

LONGEST = 133_120


def test_conversations_find_what_they_said_in_the_cache() -> None:
    drawn = sample(Traffic(), 40_000, LONGEST, np.random.default_rng(0))
    assert 0.5 < drawn.hit_share < 0.65, "DeepSeek's service: 0.56"
    assert np.median(drawn.prompt) < drawn.prompt.mean() / 1.5, "a heavy tail"
    assert np.quantile(drawn.new, 0.99) > 10_000
    never = sample(Traffic(kept=0.0), 40_000, LONGEST, np.random.default_rng(0))
    assert (never.cached == never.shared).all()


def test_the_same_seed_gives_the_same_trace() -> None:
    one, two = (arrivals(Traffic(), 50, 20, LONGEST, np.random.default_rng(7)) for _ in range(2))
    for name in ("at", "prompt", "cached", "answer", "conversation"):
        assert (getattr(one, name) == getattr(two, name)).all()
    assert (np.diff(one.at) >= 0).all()


def test_arrivals_are_burstier_than_poisson() -> None:
    def spread(burst: float) -> float:
        at = arrivals(Traffic(burst=burst), 100, 3600, LONGEST, np.random.default_rng(0)).at
        counts = np.histogram(at, bins=60, range=(0, 3600))[0]
        return float(counts.var() / counts.mean())

    assert spread(0.0) < 2
    assert spread(0.2) > 50


def test_a_day_breathes() -> None:
    hours = by_hour(Traffic(), np.arange(24))
    assert hours.max() == by_hour(Traffic(), 15.0) == 1
    assert hours.min() == pytest.approx(0.3)
    assert by_hour(Traffic(), 27.0) == pytest.approx(by_hour(Traffic(), 3.0))


@given(st.integers(16, 200_000), st.integers(1, 1000), st.integers(0, 5))
def test_every_request_fits_the_model(longest: int, count: int, seed: int) -> None:
    drawn = sample(Traffic(), count, longest, np.random.default_rng(seed))
    assert len(drawn.prompt) == count
    assert (drawn.prompt + drawn.answer <= longest).all()
    assert (drawn.new >= 1).all()
    assert (drawn.answer >= 1).all()
    assert (drawn.cached >= drawn.shared).all()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="think=-1"):
        Traffic(think=-1)
