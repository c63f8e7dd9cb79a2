"""Replicas: what fits, what is fastest, and that targets are what they cost."""

from dataclasses import replace

import numpy as np
import pytest

from troth.plan.gpus import gpu_named
from troth.plan.serving.choose import choose
from troth.plan.serving.memory import USED, free_bytes
from troth.plan.serving.reach import reachable, share_within
from troth.plan.serving.replica import Need, Targets, prefill_seconds, replicas, transfer_seconds
from troth.plan.serving.roofline import Roofline, Shape
from troth.plan.serving.traffic import Traffic, sample
from troth.system import load_system

FLAGSHIP, MINI = load_system("flagship").model, load_system("mini").model
POOL = sample(Traffic(), 10_000, FLAGSHIP.max_position_embeddings, np.random.default_rng(0))
NEED = Need.of(POOL, 0.5)
H100 = gpu_named("h100")
LONGEST = FLAGSHIP.max_position_embeddings


def test_replicas_hold_their_weights() -> None:
    found = list(replicas(FLAGSHIP, H100, "float8", "bf16", 128))
    assert found
    assert all(free_bytes(one) > 0 for one in found)
    assert all(one.shape.tp <= 8 <= one.shape.gpus for one in found)
    smallest = min(one.shape.gpus for one in found)
    assert smallest * USED * 80e9 > 1.03e12 > smallest / 2 * USED * 80e9, "16 GPUs hold a trillion bytes, 8 do not"
    assert not list(replicas(FLAGSHIP, H100, "float8", "bf16", 8))


def test_looser_targets_never_cost_more() -> None:
    found = list(replicas(FLAGSHIP, H100, "float8", "bf16", 128))
    costs = [
        choose(found, NEED, Targets(ttft, 0.05, 0.5), Traffic(), 1000, LONGEST, False, 0).gpus(1000)
        for ttft in (0.1, 0.3, 1.0)
    ]
    assert costs == sorted(costs, reverse=True)


def test_a_small_model_does_both_on_one_gpu_and_a_huge_one_apart() -> None:
    mini = list(replicas(MINI, H100, "bf16", "bf16", 8))
    small = choose(mini, NEED, Targets(0.2, 0.02), Traffic(), 1000, 32_768, False, 0)
    assert (small.decode.gpus, small.prefill) == (1, None)
    found = list(replicas(FLAGSHIP, H100, "float8", "bf16", 128))
    huge = choose(found, NEED, Targets(0.2, 0.03, 0.5), Traffic(), 1000, LONGEST, False, 0)
    assert huge.prefill is not None
    assert 0 < huge.transfer < 0.1
    both = choose(found, NEED, Targets(0.5, 0.05, 0.5), Traffic(), 1000, LONGEST, True, 0)
    assert both.prefill is None


def test_newer_gpus_take_fewer() -> None:
    targets = Targets(0.3, 0.04, 0.5)
    costs = [
        choose(list(replicas(FLAGSHIP, gpu_named(name), "float8", "bf16", 64)), NEED, targets, Traffic(), 1000, LONGEST,
               False, 0).gpus(1000) for name in ("h100", "h200", "gb200")
    ]  # fmt: skip
    assert costs == sorted(costs, reverse=True)


def test_a_small_service_takes_small_replicas() -> None:
    found = list(replicas(FLAGSHIP, H100, "float8", "bf16", 128))
    targets = Targets(1.0, 0.05, 0.5)
    few, many = (choose(found, NEED, targets, Traffic(), rate, LONGEST, False, 0) for rate in (1, 5000))
    assert few.gpus(1) < many.gpus(1)
    assert many.gpus(5000) < few.gpus(5000)


def test_what_no_replica_reaches_is_named() -> None:
    found = list(replicas(FLAGSHIP, H100, "float8", "bf16", 128))
    need = replace(NEED, late=4096.0, late_seen=2048.0)
    least = min(prefill_seconds(one, 4096, 2048) for one in found)
    planned, said = reachable(found, need, Targets(0.05, 0.001), 0.02)
    assert planned.ttft > least > 0.05
    assert f"{(least + 0.02) * 1e3:,.0f} ms" in said[0]
    assert "4,096 new tokens" in said[0]
    assert "1 ms for each further token cannot be had" in said[1]
    assert reachable(found, need, Targets(2, 0.05), 0.02) == (Targets(1.98, 0.05), [])


def test_the_share_of_prompts_within_a_target_grows_with_it() -> None:
    one = Roofline(FLAGSHIP, Shape(H100, 32, 8))
    shares = [share_within(one, POOL, seconds) for seconds in (0.0, 0.05, 0.5, 60.0)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_keys_and_values_move_as_fast_as_the_network() -> None:
    one = Roofline(FLAGSHIP, Shape(H100, 32, 8))
    whole = one.cache_bytes(4000) * 8
    assert transfer_seconds(one, one, 4000) == pytest.approx(whole / 8 / (50e9 * 0.9))


@pytest.mark.parametrize(
    ("targets", "says"),
    [((-1, 0.05, 0.9), "ttft=-1"), ((1, 0, 0.9), "tpot=0"), ((1, 0.05, 1.0), "percentile=1.0")],
)
def test_targets_make_sense(targets: tuple[float, float, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Targets(*targets)
