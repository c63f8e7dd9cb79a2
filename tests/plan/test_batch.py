"""The critical batch by published laws, its cost, and what a fixed batch leaves each of many ranks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.plan.batch import batch_cost, critical_batch


def test_two_laws_of_data_agree_where_they_were_fitted_and_far_beyond() -> None:
    for tokens in (1e9, 1e11, 3e13):
        found = critical_batch(tokens)
        assert found.low <= found.middle <= found.high
        assert found.high / found.low < 1.3
        assert found.extrapolated == (tokens > 1e11)


def test_a_run_of_30e12_tokens_has_a_critical_batch_of_over_100_million_tokens() -> None:
    found = critical_batch(3e13)
    assert 1e8 < found.middle < 3e8


def test_published_runs_stay_below_it() -> None:
    # Llama 3 405B: 16 million tokens of 15.6e12; DeepSeek-V3: 63 million of 14.8e12.
    for batch, tokens in ((16e6, 15.6e12), (63e6, 14.8e12)):
        assert batch < critical_batch(tokens).low


@given(st.floats(1e4, 1e9), st.floats(1e4, 1e9))
def test_steps_and_tokens_trade_off_as_in_the_model(batch: float, critical: float) -> None:
    cost = batch_cost(1e12, batch, critical)
    fewest_steps = 1e12 / critical
    assert (cost.steps / fewest_steps - 1) * (cost.tokens / 1e12 - 1) == pytest.approx(1)
    assert cost.extra_tokens * cost.extra_steps == pytest.approx(1)


def test_at_the_critical_batch_tokens_and_steps_double() -> None:
    cost = batch_cost(1e12, 4e6, 4e6)
    assert (cost.tokens, cost.steps) == (2e12, 500_000)


def test_no_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="tokens 0"):
        critical_batch(0)
