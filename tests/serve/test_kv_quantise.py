"""Keys and values in 8 bit: how near, how small, and as good as whole ones for everything that shares or moves them."""

from collections.abc import Callable

import pytest
import torch

from troth.model.config import ModelConfig
from troth.serve.engine.engine import Engine
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.kv_quantise import LARGEST, dequantise_rows, quantise_rows
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import SamplingParams
from troth.system import ServeTable, load_system

from .conftest import random_network
from .test_kv_cache import KINDS, in_chunks, prompt
from .test_needle import ANSWER, QUESTION, answers, copier, haystack

BOTH = pytest.mark.parametrize("kind", ["int8", "fp8"])
GREEDY = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)


@BOTH
def test_numbers_are_within_half_a_step(kind):
    x = torch.randn(50, 3, 24, generator=torch.Generator().manual_seed(1)) * torch.logspace(-4, 3, 50)[:, None, None]
    x[7], x[8, 0, :16] = 0, 0
    kept = dequantise_rows(*quantise_rows(x, kind, (16, 8)), (16, 8), torch.float32)
    for part in (slice(0, 16), slice(16, 24)):
        most = x[..., part].abs().amax(-1, keepdim=True)
        # e4m3 has three bits behind the first, and below 2^-6 steps of 2^-9.
        near = x[..., part].abs() / 16 if kind == "fp8" else 0
        step = most / LARGEST[kind] * (0.5 if kind == "int8" else 2**-10) * 1.001
        assert ((kept - x)[..., part].abs() <= torch.maximum(step, torch.as_tensor(near))).all()


@BOTH
@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_hidden_states_stay_near_those_of_the_plain_network(config: ModelConfig, kind, changes):
    """One layer, and all experts: where rounding chooses between two, no bound would mean much. A number in e4m3 is off
    by up to 1/16 of itself."""
    few = {"num_hidden_layers": 1, "num_dense_layers": 0, "num_expert_groups": 1, "topk_groups": 1}
    model = random_network(config, changes | few | {"num_experts_per_tok": config.num_experts}, torch.float32)
    tokens_T = prompt(300)
    [found_TD] = in_chunks(model, [tokens_T], [[1, 17, 40, 200]], kind)
    with torch.inference_mode():
        expected_TD = model(tokens_T[None])[0]
    off = ((found_TD - expected_TD).norm() / expected_TD.norm()).item()
    assert 0 < off < {"int8": 0.01, "fp8": 1 / 16}[kind]


@BOTH
def test_twice_the_tokens_fit(kind):
    """Of the flagship's network, whose heads have 128 numbers: two bytes for each of them, or one and a scale."""
    config = load_system("flagship").model
    sizes = 640, 64, 16, torch.bfloat16, torch.device("meta")
    whole, narrow = KVCache(config, *sizes), KVCache(config, *sizes, kind=kind)
    assert 0.5 < narrow.bytes / whole.bytes < 0.52


@BOTH
def test_shared_beginnings_guesses_and_giving_way_change_no_text(make_engine: Callable[..., Engine], kind):
    beginning = tuple(range(20, 70))
    prompts = [(*beginning, *range(number, number + 5 + 7 * number)) for number in range(6)] + [(9, 8, 7) * 40]

    def texts(**changes: object) -> tuple[list[list[int]], Engine]:
        engine = make_engine(kv_cache_dtype=kind, deterministic=True, **changes)
        found = engine.generate(Request(prompt, GREEDY) for prompt in prompts)
        return [[token.id for output in outputs for token in output.tokens] for outputs in found], engine

    plain, _ = texts(max_batch=1)
    crowded, engine = texts(cache_tokens=320, max_step_tokens=9, speculate="ngram")
    assert crowded == plain
    assert engine.stats.preemptions > 0
    assert engine.stats.drafted > 0
    assert engine.stats.free_blocks == engine.stats.blocks


@BOTH
def test_needles_are_found(tokenizer, kind):
    """By a copier that has to tell three tokens from two, and a place from its neighbour."""
    positions = 2_000
    model = copier(tokenizer.vocab_size, positions)
    engine = Engine(model, tokenizer, ServeTable(cache_tokens=positions, kv_cache_dtype=kind))
    hay_T, needles_DN = haystack(positions - QUESTION - ANSWER, len(tokenizer.ranks))
    assert answers(engine, hay_T, needles_DN) == needles_DN[:, QUESTION:].tolist()
