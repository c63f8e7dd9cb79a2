"""The critical batch by published laws, its cost, and what a fixed batch leaves each of many ranks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.plan.batch import batch_cost, critical_batch, optimal_batch, rank_share


def test_two_laws_of_data_agree_where_they_were_fitted_and_far_beyond() -> None:
    for tokens in (1e9, 1e11, 3e13):
        found = critical_batch(tokens)
        assert found.low <= found.middle <= found.high
        assert found.high / found.low < 1.3
        assert found.extrapolated == (tokens > 1e11)


def test_a_run_of_30e12_tokens_has_a_critical_batch_of_over_100_million_tokens() -> None:
    found = critical_batch(3e13)
    assert 1e8 < found.middle < 3e8
    # The older law of loss says far less, and widens the range.
    assert critical_batch(3e13, loss=1.6).low < 0.2 * found.low


def test_published_runs_stay_below_it() -> None:
    # Llama 3 405B: 16 million tokens of 15.6e12; DeepSeek-V3: 63 million of 14.8e12.
    for batch, tokens in ((16e6, 15.6e12), (63e6, 14.8e12)):
        assert batch < critical_batch(tokens).low


def test_the_best_batch_is_below_the_critical_one() -> None:
    # DeepSeek-V3 took 63 million tokens.
    laws = optimal_batch(14.8e12, 6 * 37e9 * 14.8e12)
    assert max(laws.values()) < critical_batch(14.8e12).low
    assert all(63e6 / 4 < batch < 63e6 * 4 for batch in laws.values())


@given(st.floats(1e4, 1e9), st.floats(1e4, 1e9))
def test_steps_and_tokens_trade_off_as_in_the_model(batch: float, critical: float) -> None:
    cost = batch_cost(1e12, batch, critical)
    fewest_steps = 1e12 / critical
    assert (cost.steps / fewest_steps - 1) * (cost.tokens / 1e12 - 1) == pytest.approx(1)
    assert cost.extra_tokens * cost.extra_steps == pytest.approx(1)


def test_at_the_critical_batch_tokens_and_steps_double() -> None:
    cost = batch_cost(1e12, 4e6, 4e6)
    assert (cost.tokens, cost.steps) == (2e12, 500_000)


def test_strong_scaling_starves_the_pipeline() -> None:
    shares = [rank_share(64e6, 8192, gpus, model_ranks=64, stages=8) for gpus in (16_384, 65_536, 400_000)]
    assert [share.data_ranks for share in shares] == [256, 1024, 6250]
    assert [share.microbatches for share in shares] == [30, 7, 1]
    assert shares[0].bubble == pytest.approx(7 / 37)
    assert shares[0].bubble < shares[1].bubble < shares[2].bubble
    assert rank_share(64e6, 8192, 16_384, 64, stages=8, virtual_stages=4).bubble < shares[0].bubble


def test_more_gpus_than_rows_is_refused_with_the_most_that_work() -> None:
    with pytest.raises(ValueError, match="at most 15616 GPUs") as caught:
        rank_share(4e6, 16_384, 400_000, model_ranks=64)
    assert "400000" in str(caught.value)
    assert rank_share(4e6, 16_384, 15_616, model_ranks=64).microbatches == 1
    with pytest.raises(ValueError, match="tokens 0"):
        critical_batch(0)
