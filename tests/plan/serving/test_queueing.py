"""Replicas step by step, against what queueing theory and arithmetic say of simple cases."""

import numpy as np
import pytest

from troth.plan.gpus import gpu_named
from troth.plan.serving.clock import Clock
from troth.plan.serving.queueing import Limits, Outcome, _share, simulate
from troth.plan.serving.roofline import Roofline, Shape
from troth.plan.serving.traffic import Requests, Traffic, arrivals
from troth.system import load_system

MINI = load_system("mini").model
ONE = Roofline(MINI, Shape(gpu_named("h100"), 1, 1, "bf16"))
CLOCK = Clock(ONE, 1000, 500)
LIMITS = Limits(max_batch=64, cache_tokens=1e6, max_step_tokens=2048, step_seconds=0.02)


def same(count: int, every: float, prompt: int = 512, answer: int = 32, cached: int = 0) -> Requests:
    def full(value: int) -> np.ndarray:
        return np.full(count, value)

    return Requests(np.arange(count) * every, full(prompt), full(cached), full(0), full(answer), np.arange(count))


def run(requests: Requests, replicas: int = 1, limits: Limits = LIMITS, **more: bool) -> Outcome:
    return simulate(CLOCK, limits, requests, replicas, **more)


def test_a_request_alone_takes_its_prefill_and_its_steps() -> None:
    done = run(same(1, 1.0))
    assert done.ttft[0] == pytest.approx(CLOCK.seconds(0, 0, 512, 512, 512 * 256))
    assert done.tpot[0] == pytest.approx(CLOCK.seconds(1, 530), rel=0.02)
    assert done.last[0] == pytest.approx(done.ttft[0] + 31 * done.tpot[0])


def test_what_is_cached_is_not_computed() -> None:
    cold, warm = run(same(1, 1.0, prompt=8000)), run(same(1, 1.0, prompt=8000, cached=7900))
    assert warm.hits == pytest.approx(7900 / 8000)
    assert warm.ttft[0] < cold.ttft[0] / 2


def test_waits_are_those_of_a_queue_with_equal_service() -> None:
    """One request at a time is M/D/1: Pollaczek and Khinchine's mean wait is u / (2 (1 - u)) service times."""
    rng = np.random.default_rng(0)
    service = CLOCK.seconds(0, 0, 512, 512, 512 * 256)
    used = 0.6
    at = np.cumsum(rng.exponential(service / used, 20_000))
    requests = Requests(at, *(np.full(20_000, value) for value in (512, 0, 0, 1)), np.arange(20_000))
    done = run(requests, limits=Limits(1, 1e9, 2048, 1.0))
    assert done.busy == pytest.approx(used, rel=0.03)
    assert float(done.ttft.mean()) == pytest.approx(service * (1 + used / (2 * (1 - used))), rel=0.05)


def test_a_replica_is_never_busier_than_all_the_time() -> None:
    """Also where its last step goes on beyond the last arrival."""
    assert run(same(3, 0.001, prompt=2000)).busy == pytest.approx(1)


def test_more_load_waits_longer_and_more_replicas_less() -> None:
    rng = np.random.default_rng(1)
    few, many = (arrivals(Traffic(), rate, 20, MINI.max_position_embeddings, rng) for rate in (5.0, 15.0))
    calm, busy, wide = run(few), run(many), run(many, replicas=3)
    assert calm.busy < busy.busy
    assert np.quantile(busy.ttft, 0.9) > np.quantile(calm.ttft, 0.9)
    assert np.quantile(wide.ttft, 0.9) < np.quantile(busy.ttft, 0.9)
    assert busy.tpot.mean() > calm.tpot.mean()


def test_steps_keep_their_pace_beside_long_prompts() -> None:
    short, long = same(20, 0.01, prompt=100, answer=400), same(1, 1.0, prompt=30_000, answer=2)
    mixed = Requests(*(
        np.concatenate([getattr(short, name), getattr(long, name)])
        for name in ("at", "prompt", "cached", "shared", "answer", "conversation")
    ))  # fmt: skip
    order = np.argsort(mixed.at, kind="stable")
    mixed = Requests(*(
        getattr(mixed, name)[order] for name in ("at", "prompt", "cached", "shared", "answer", "conversation")
    ))  # fmt: skip
    done = run(mixed)
    assert done.tpot[mixed.prompt == 100].max() < 1.3 * LIMITS.step_seconds


def test_a_full_cache_makes_requests_wait() -> None:
    tight = Limits(64, 1200, 2048, 0.02)
    requests = same(8, 0.0)
    assert run(requests, limits=tight).last.max() > 3 * run(requests).last.max()


def test_prefill_and_decode_apart_make_one_answer() -> None:
    requests = same(10, 0.05)
    first = run(requests, decode=False)
    assert (first.first == first.last).all()
    moved = Requests(first.first, requests.prompt, requests.prompt, requests.prompt, requests.answer, np.arange(10))
    second = run(moved, prefilled=True)
    assert (second.first == moved.at).all()
    assert second.tpot.mean() == pytest.approx(CLOCK.seconds(3, 3 * 530), rel=0.1)


def test_answers_underway_are_in_the_batch() -> None:
    underway = same(50, 0.0, answer=500)
    alone, among = run(same(1, 1.0)), simulate(CLOCK, LIMITS, same(1, 1.0), 1, underway=underway)
    assert len(among.ttft) == 1
    assert among.tpot[0] > alone.tpot[0]


def test_a_full_replica_sends_a_conversation_to_another_without_its_cache() -> None:
    crowd = Requests(np.zeros(6), *(np.full(6, value) for value in (512, 500, 0, 8)), np.zeros(6, int))
    done = run(crowd, replicas=2, limits=Limits(4, 1e6, 2048, 0.02))
    assert done.hits == pytest.approx(4 * 500 / (6 * 512))


def test_shares_are_the_engine_schedulers() -> None:
    """The same prompts and budget as in the engine's own rule: half to the first, the rest to the shortest."""
    from troth.serve.engine.scheduler import _share as engine_share

    class Sequence:
        def __init__(self, pending: int):
            self.pending = pending
            self.request = type("Request", (), {"priority": 0})

    for lengths in [(100,), (1000, 30, 40), (5, 900, 800), (64, 64, 64, 64), (3000, 2000, 10)]:
        for budget in (16, 64, 512):
            mine = [(one[0], count) for one, count in _share([[i, 0, n] for i, n in enumerate(lengths)], budget, 10**9)]
            sequences = [Sequence(length) for length in lengths]
            theirs = [(sequences.index(one), count) for one, count in engine_share(sequences, budget)]
            assert mine == theirs
