"""A prompt fed to the cache in chunks gives the hidden states of the whole prompt at once."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from troth.model.config import ModelConfig
from troth.model.counts import kv_cache_bytes
from troth.model.decoder import Decoder
from troth.serve.engine.block_tables import sliding_blocks
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.kv_quantise import KVCacheDtype
from troth.system import load_system

from .conftest import random_network

BLOCK_SIZE = 16  # beside a window of 20 tokens (see conftest.py)

KINDS = {
    "windows, dense and experts": {},
    "no windows, rotary everywhere": {
        "sliding_window": None, "rope_layers": "all", "num_dense_layers": 0, "num_shared_experts": 0,
        "qk_norm": "width", "attention_gate": False, "post_norms": False, "mup_enabled": False,
        "router_score": "softmax",
    },
    "bent scores that grow with the position": {
        "sliding_window": None, "rope_layers": "all", "qk_norm": "none", "attention_gate": False,
        "router_score": "softmax", "norm_topk_prob": False, "attention_softcap": 2.0, "router_softcap": 1.0,
        "attention_temperature_len": 8, "activation": "gelu_tanh",
    },
    "sinks and biases": {
        "rope_layers": "all", "qk_norm": "none", "attention_gate": False, "post_norms": False,
        "num_dense_layers": 0, "num_shared_experts": 0, "router_score": "softmax", "attention_sinks": True,
        "biases": True, "swiglu_limit": 0.5, "global_attn_every_n_layers": 2,
    },
    "latents and groups of experts": {
        "sliding_window": None, "rope_layers": "all", "qk_norm": "none", "attention_gate": False, "post_norms": False,
        "num_expert_groups": 2, "topk_groups": 1, "num_experts_per_tok": 1, "head_dim": 24,
        "latent": {
            "q_lora_rank": 20, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12,
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """A span of a sequence, as the scheduler hands them to the cache."""

    start: int
    count: int
    blocks: list[int]
    sliding_blocks: list[int]


@torch.inference_mode()
def in_chunks(
    model: Decoder, prompts: list[torch.Tensor], cuts: list[list[int]], kind: KVCacheDtype = "auto"
) -> list[torch.Tensor]:
    """Hidden states of the prompts, [time, hidden] each, after steps of which each takes one chunk of every prompt.

    `cuts` are the positions where a prompt's chunks begin, besides 0. The prompts' blocks lie mingled in the cache.
    """
    weight = model.embed_tokens.weight
    sizes = [-(-len(tokens_T) // BLOCK_SIZE) for tokens_T in prompts]
    order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(sum(sizes)))
    tables = [table.tolist() for table in order.split(sizes)]
    cache = KVCache(model.config, len(order), len(order), BLOCK_SIZE, weight.dtype, weight.device, kind=kind)
    # What an earlier sequence left in the blocks must not matter.
    for tensor in (*cache.keys, *cache.values, *cache.key_scales, *cache.value_scales):
        tensor.fill_(5)
    bounds = [[0, *cut, len(tokens_T)] for tokens_T, cut in zip(prompts, cuts, strict=True)]
    found: list[list[torch.Tensor]] = [[] for _ in prompts]
    for step in range(max(len(bound) for bound in bounds) - 1):
        places = [place for place, bound in enumerate(bounds) if step + 1 < len(bound)]
        pieces = [
            Piece(start, end - start, tables[place], tables[place][::-1])
            for place in places
            for start, end in [bounds[place][step : step + 2]]
        ]
        ranges = [slice(piece.start, piece.start + piece.count) for piece in pieces]
        tokens_T = torch.cat([prompts[place][part] for place, part in zip(places, ranges, strict=True)])
        positions_T = torch.cat([torch.arange(part.start, part.stop) for part in ranges])
        h_BTD = model(tokens_T[None], cache.attend(pieces), positions_T[None])
        for place, h_TD in zip(places, h_BTD[0].split([piece.count for piece in pieces]), strict=True):
            found[place].append(h_TD)
    return [torch.cat(parts) for parts in found]


def prompt(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(391, (length,), generator=torch.Generator().manual_seed(1000 * seed + length))


@st.composite
def cut_prompts(draw: st.DrawFn) -> list[tuple[int, list[int]]]:
    """Up to three prompts, each by its length and where it is cut."""
    lengths = draw(st.lists(st.integers(1, 120), min_size=1, max_size=3))
    cuts = [draw(st.sets(st.integers(1, length), max_size=6)) for length in lengths]
    return [(length, sorted(cut - {length})) for length, cut in zip(lengths, cuts, strict=True)]


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS.keys())
def exact(request: pytest.FixtureRequest, config: ModelConfig) -> Decoder:
    """A network of each kind in float64, where no two experts score so alike that rounding chooses between them."""
    return random_network(config, request.param, torch.float64)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut_prompts())
@example([(120, [15, 16, 17, 19, 20, 21, 31, 36, 37, 64])])
@example([(100, [50]), (100, [99])])
def test_chunks_of_any_size_give_what_the_plain_network_gives(exact: Decoder, shape):
    prompts = [prompt(length, seed) for seed, (length, _) in enumerate(shape)]
    for tokens_T, h_TD in zip(prompts, in_chunks(exact, prompts, [cuts for _, cuts in shape]), strict=True):
        with torch.inference_mode():
            torch.testing.assert_close(h_TD, exact(tokens_T[None])[0], atol=1e-10, rtol=0)


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("cuts", [[], [512, 1024], [1, 18, 40, 41, 300, 1001]], ids=["at once", "default", "uneven"])
def test_in_float32_logits_stay_within_one_in_ten_thousand(config: ModelConfig, changes, cuts: list[int]):
    model = random_network(config, changes, torch.float32)
    tokens_T = prompt(1100)
    [h_TD] = in_chunks(model, [tokens_T], [cuts])
    with torch.inference_mode():
        torch.testing.assert_close(model.logits(h_TD), model.logits(model(tokens_T[None])[0]), atol=1e-4, rtol=0)


def test_windows_take_little_of_the_memory_for_a_long_text():
    """133,120 tokens on nano's network, whose first layer has a window; nothing is allocated on the meta device."""
    config = load_system("nano", ["model.max_position_embeddings=133120"]).model
    blocks = 133_120 // BLOCK_SIZE
    sliding = sliding_blocks(blocks, BLOCK_SIZE, config.window, max_batch=16, max_step_tokens=512)
    cache = KVCache(config, blocks, sliding, BLOCK_SIZE, torch.bfloat16, torch.device("meta"))
    of_block = 2 * BLOCK_SIZE * config.num_key_value_heads * config.head_dim * 2
    assert cache.bytes == of_block * (blocks + sliding)
    assert sliding < 0.3 * blocks
    assert cache.bytes > kv_cache_bytes(config, 133_120, 2), "what one such text keeps fits"
