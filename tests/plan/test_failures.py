"""Published failure rates, intervals between saves, silent corruption and slow ranks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.plan.failures import (
    corruption_loss,
    failure_rate,
    failure_rates,
    optimal_interval,
    straggler_slowdown,
    write_seconds,
)
from troth.plan.goodput import Saving, restart_goodput


def test_llama_3_was_interrupted_419_times_in_54_days_mostly_by_gpus() -> None:
    rate = failure_rate("llama3")
    run = 16_384 * 54 * 24
    assert rate.per_gpu_hour * run == pytest.approx(419)
    by_gpus = sum(rate.components[part] for part in ("gpu", "hbm3", "gpu-sram", "gpu-system-processor", "gpu-thermal"))
    assert by_gpus * run == pytest.approx(262)
    assert max(rate.components, key=rate.components.__getitem__) == "gpu"


@pytest.mark.parametrize(("name", "minutes"), [("rsc-1", 4.4), ("llama3", 7.6), ("rsc-2", 12.5)])
def test_400000_gpus_fail_every_few_minutes(name: str, minutes: float) -> None:
    assert failure_rate(name).mtbf(400_000) / 60 == pytest.approx(minutes, abs=0.05)


def test_an_unknown_rate_is_named_with_those_known() -> None:
    with pytest.raises(ValueError, match="llama3, rsc-1, rsc-2"):
        failure_rate("mars")
    with pytest.raises(ValueError, match="gpus 0"):
        failure_rate("llama3").mtbf(0)
    assert all(rate.source for rate in failure_rates().values())


def test_a_checkpoint_takes_as_long_as_the_narrowest_way_lets_it() -> None:
    assert write_seconds(14e12, nodes=2048, node_bandwidth=5e9, total_bandwidth=2e12) == 7
    assert write_seconds(14e12, nodes=100, node_bandwidth=5e9, total_bandwidth=2e12) == 28


def young_interval(stall: float, mtbf: float) -> float:
    """Young's estimate (1974)."""
    return math.sqrt(2 * stall * mtbf)


def daly_interval(stall: float, mtbf: float) -> float:
    """Daly's higher-order estimate (2006, equation 37)."""
    if stall >= 2 * mtbf:
        return mtbf
    root = math.sqrt(stall / (2 * mtbf))
    return math.sqrt(2 * stall * mtbf) * (1 + root / 3 + stall / (2 * mtbf) / 9) - stall


@given(st.floats(0.01, 100), st.floats(300, 1e6))
def test_the_optimal_interval_is_the_best_of_its_neighbours_and_dalys_nearly(stall: float, mtbf: float) -> None:
    best = optimal_interval(stall, mtbf)

    def share(interval: float) -> float:
        return restart_goodput(mtbf, Saving(stall), interval, restart=60)

    assert share(best) >= max(share(best * 0.9), share(best * 1.1), share(young_interval(stall, mtbf)))
    assert share(daly_interval(stall, mtbf)) == pytest.approx(share(best), rel=2e-3)


def test_young_daly_and_the_optimum_meet_where_failures_are_rare() -> None:
    assert young_interval(10, 1e7) == pytest.approx(math.sqrt(2e8))
    assert daly_interval(10, 1e7) == pytest.approx(optimal_interval(10, 1e7), rel=1e-5)
    assert young_interval(10, 1e7) == pytest.approx(optimal_interval(10, 1e7), rel=1e-3)
    # Young's guess is far too long where a save takes as long as the time between failures.
    assert optimal_interval(100, 100) < 0.7 * young_interval(100, 100)
    assert daly_interval(300, 100) == 100


def test_saves_do_not_begin_before_the_last_is_written() -> None:
    assert optimal_interval(0.01, 500, write=60) == pytest.approx(59.99)


def test_corruption_costs_about_a_period_and_a_restart_each_time() -> None:
    per_second = 6 / (54 * 86_400)
    loss = corruption_loss(per_second, check=3600, restart=600)
    assert loss == pytest.approx(per_second * (3600 + 600), rel=0.01)
    assert corruption_loss(per_second, 7200, 600) > loss
    assert corruption_loss(0, 3600, 600) == 0


def test_corruption_played_out_loses_as_much() -> None:
    rng = np.random.default_rng(0)
    rate, check, restart = 1 / 5000, 2000.0, 300.0
    struck = rng.exponential(1 / rate, 200_000) < check
    seconds = len(struck) * check + struck.sum() * restart
    assert 1 - (~struck).sum() * check / seconds == pytest.approx(corruption_loss(rate, check, restart), rel=0.01)


def test_one_slow_machine_in_two_hundred_slows_every_large_run() -> None:
    assert straggler_slowdown(1) == pytest.approx(1.0005)
    assert straggler_slowdown(2048) == pytest.approx(1.1, abs=1e-4)
