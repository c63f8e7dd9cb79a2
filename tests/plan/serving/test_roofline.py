"""Times of steps: what they must be made of, and how near they come to what engines were published to reach."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.model.config import ModelConfig
from troth.plan.gpus import gpu_named
from troth.plan.serving.clock import Clock
from troth.plan.serving.memory import most_sequences
from troth.plan.serving.published import published, ratio
from troth.plan.serving.roofline import Efficiency, Roofline, Shape
from troth.system import load_system

H100 = gpu_named("h100")
FLAGSHIP = load_system("flagship").model
PERFECT = Efficiency(
    bandwidth=1, products=1, experts=1, rows=0, attention=1, link=1, network=1, overlap=0, imbalance=1,
    link_latency=0, network_latency=0, layer=0, step=0,
)  # fmt: skip


def test_published_figures_are_met_to_within_a_factor() -> None:
    """In sample: the efficiencies are fitted to these; the table is `python bench/plan_serve.py --published`."""
    logs = np.array([np.log(ratio(row)) for row in published()])
    assert len(logs) == 60
    assert np.exp(np.abs(logs).mean()) < 1.25
    assert np.exp(np.median(logs)) == pytest.approx(1, abs=0.1), "no promise too much, none too little, in the middle"
    assert (np.abs(logs) < np.log(1.5)).mean() >= 0.9
    assert np.exp(np.abs(logs).max()) < 1.9


@pytest.mark.parametrize("source", sorted({row.source for row in published()}))
def test_no_source_is_far_off(source: str) -> None:
    logs = [np.log(ratio(row)) for row in published() if row.source == source]
    assert np.exp(abs(np.mean(logs))) < 1.4


def test_one_sequence_reads_its_experts_and_no_others() -> None:
    one = Roofline(FLAGSHIP, Shape(H100, 16, 16), PERFECT)
    assert float(one.covered(np.array(1.0))) == pytest.approx(8 / 384)
    few, many = (float(one.experts(np.array(float(batch)))) for batch in (1, 10_000))
    assert many / few == pytest.approx(384 / 8, rel=0.2), "a large batch reads all"


def test_decoding_one_sequence_takes_the_time_of_reading_what_is_active() -> None:
    mini = load_system("mini").model
    one = Roofline(mini, Shape(H100, 1, 1, "bf16"), PERFECT)
    active = 260e6 - mini.vocab_size * mini.hidden_size
    assert float(one.step(1, 1).seconds) == pytest.approx(2 * active / 3.35e12, rel=0.1)


def test_windows_and_latents_keep_less() -> None:
    shape = Shape(H100, 16, 8)
    full = Roofline(FLAGSHIP.model_copy(update={"sliding_window": None}), shape)
    assert Roofline(FLAGSHIP, shape).cache_bytes(100_000) < full.cache_bytes(100_000) / 3
    latent = next(row.model for row in published() if row.name == "deepseek-v3")
    assert Roofline(latent, shape).cache_bytes(1000) == 1000 * 61 * (512 + 64) * 2, "the same on each GPU of a group"


def test_fewer_bits_take_less_memory_and_decode_sooner() -> None:
    found = [Roofline(FLAGSHIP, Shape(H100, 64, 8, kind)) for kind in ("bf16", "float8", "int4")]
    sizes = [one.weight_bytes for one in found]
    assert sizes == sorted(sizes, reverse=True)
    times = [float(one.step(8, 1000).seconds) for one in found]
    assert times == sorted(times, reverse=True)
    assert most_sequences(Roofline(FLAGSHIP, Shape(H100, 8, 8)), 1024) == 0, "a trillion bytes do not fit 8 x 80 GB"


def test_what_a_gpu_does_not_multiply_is_refused() -> None:
    with pytest.raises(ValueError, match="float8: a100 has float32, bf16"):
        Roofline(FLAGSHIP, Shape(gpu_named("a100"), 64, 8, "float8")).step(1, 10)


def test_one_prompt_keeps_one_group_busy() -> None:
    one = Roofline(FLAGSHIP, Shape(H100, 64, 4))
    alone, spread = (float(one.step(0, 0, 16_384, 512, prompts=prompts).seconds) for prompts in (1, 16))
    assert alone > 3 * spread


@given(st.integers(1, 3000), st.integers(1, 100_000), st.integers(0, 20_000))
def test_more_work_never_takes_less_time(batch: int, context: int, prompt: int) -> None:
    one = Roofline(FLAGSHIP, Shape(H100, 64, 8))
    seconds = float(one.step(batch, context, prompt, 100).seconds)
    assert seconds > 0
    assert float(one.step(2 * batch, context, prompt, 100).seconds) >= seconds * 0.999
    assert float(one.step(batch, 2 * context, prompt, 100).seconds) >= seconds * 0.999
    assert float(one.step(batch, context, 2 * prompt, 100).seconds) >= seconds * 0.999


@pytest.mark.parametrize("name", ["flagship", "grok-1", "mini"])
def test_look_ups_agree_with_the_roofline(name: str) -> None:
    model: ModelConfig = load_system(name).model
    one = Roofline(model, Shape(H100, 8 if name != "flagship" else 32, 8))
    clock = Clock(one, 2000, 1000)
    for batch, prompt in [(1, 0), (64, 0), (64, 512), (0, 4096), (500, 3000)]:
        sharing = one.shape.groups
        wanted = float(one.step(batch, 2000, prompt, 1000).seconds)
        got = clock.seconds(batch, batch * 2000, prompt, -(-prompt // sharing), prompt * 1000 / sharing)
        assert got == pytest.approx(wanted, rel=0.03)
    budget = clock.prompt_budget(64, 64 * 2000, 0.1)
    assert clock.seconds(64, 64 * 2000, budget * one.shape.groups, budget) == pytest.approx(0.1, rel=0.15)
