"""What a network takes is told from its dimensions, and is what the network itself has, built on the meta device."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from troth.model.attention import packed_attention
from troth.model.config import ModelConfig
from troth.model.counts import count_parameters, count_parts, forward_flops, kv_cache_bytes
from troth.model.decoder import Decoder
from troth.model.families.configs import from_hf_config, to_hf_config
from troth.system import load_system

PARTS = {
    "embed_tokens": "embedding", "lm_head": "head", "norm": "norms", "layernorm": "norms", "q_norm": "norms",
    "k_norm": "norms", "self_attn": "attention", "router": "routers", "shared_experts": "shared experts",
    "experts": "routed experts", "mlp": "dense feed-forward",
}  # fmt: skip


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    size = st.integers(1, 9)
    layers, experts, key_heads = draw(size), draw(size), draw(st.integers(1, 3))
    return ModelConfig(
        vocab_size=draw(st.integers(1, 50)),
        hidden_size=draw(st.integers(1, 20)),
        intermediate_size=draw(size),
        moe_intermediate_size=draw(size),
        num_hidden_layers=layers,
        num_dense_layers=draw(st.integers(0, layers)),
        num_attention_heads=key_heads * draw(st.integers(1, 3)),
        num_key_value_heads=key_heads,
        head_dim=2 * draw(size),
        num_experts=experts,
        num_experts_per_tok=draw(st.integers(1, experts)),
        num_shared_experts=draw(st.integers(1, 3)),
        sliding_window=4,
        max_position_embeddings=16,
        tie_word_embeddings=draw(st.booleans()),
    )


def build(config: ModelConfig) -> Decoder:
    with torch.device("meta"):
        return Decoder(config)


def parts_of(model: Decoder) -> dict[str, int]:
    """Parameters of a network, summed by the words in their names."""
    sums: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = next(part for word, part in PARTS.items() if any(piece.endswith(word) for piece in name.split(".")))
        sums[part] = sums.get(part, 0) + parameter.numel()
    return sums


@given(configs())
def test_counts_are_those_of_the_network(config):
    model = build(config)
    assert {name: part.total for name, part in count_parts(config).items()} == parts_of(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    routed = sum(parameter.numel() for moe in model.moe_layers() for parameter in moe.experts.parameters())
    working = routed * config.num_experts_per_tok // config.num_experts
    counts = count_parameters(config)
    assert counts.total == total
    assert counts.active == total - routed + working


@pytest.mark.parametrize("name", ["nano", "mini", "flagship", "grok-1", "grok-2"])
def test_a_named_system_counts_as_it_is_built(name):
    config = load_system(name).model
    model = build(config)
    assert {part: counts.total for part, counts in count_parts(config).items()} == parts_of(model)
    to_hf_config(config, "bfloat16", eos_token_id=0)


PUBLISHED = {
    "grok-1": (315_684_820_992, 83_756_587_008),
    "grok-2": (269_515_497_472, 114_896_674_816),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_groks_count_as_published(name):
    counts = count_parameters(load_system(name).model)
    assert (counts.total, counts.active) == PUBLISHED[name]


def test_latent_attention_counts_and_keeps_what_deepseek_v3_does():
    """671 billion parameters, 37 active (2412.19437, section 1; 37.6 with embedding and head); 70,272 bytes a token."""
    config = from_hf_config({
        "model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
        "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
        "num_key_value_heads": 128, "n_shared_experts": 1, "n_routed_experts": 256, "routed_scaling_factor": 2.5,
        "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
        "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "norm_topk_prob": True,
        "max_position_embeddings": 163840, "tie_word_embeddings": False,
    })  # fmt: skip
    counts = count_parameters(config)
    assert counts.total == sum(parameter.numel() for parameter in build(config).parameters())
    assert 671.0e9 < counts.total < 671.1e9
    assert 37.5e9 < counts.active < 37.6e9
    assert kv_cache_bytes(config, 1, 2.0) == 70_272


def test_the_flagship_is_as_large_as_planned_and_divides_over_its_ranks():
    config = load_system("flagship").model
    counts = count_parameters(config)
    assert counts.total > 1e12
    assert counts.active <= 40e9
    assert config.max_position_embeddings == 133_120
    assert 393_216 % config.num_experts == 0
    assert all(n % 8 == 0 for n in (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads))


LATENT = {
    "head_dim": 10, "attention_gate": False, "qk_norm": "none",
    "latent": {"q_lora_rank": 5, "kv_lora_rank": 7, "qk_nope_head_dim": 4, "qk_rope_head_dim": 6, "v_head_dim": 3},
}  # fmt: skip


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3), st.sampled_from([{}, LATENT]))
def test_operations_are_those_that_torch_counts_and_attention_those_that_a_mask_lets_through(
    length, window, every, attention
):
    sizes = {
        "vocab_size": 50, "hidden_size": 12, "intermediate_size": 20, "moe_intermediate_size": 8,
        "num_hidden_layers": 3, "num_dense_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 6, "num_experts": 4, "num_experts_per_tok": 2, "num_shared_experts": 1, "sliding_window": window,
        "global_attn_every_n_layers": every, "max_position_embeddings": 40, "tie_word_embeddings": True,
    }  # fmt: skip
    config = ModelConfig(**(sizes | attention))
    model = Decoder(config)
    tokens = torch.zeros(1, length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model.logits(model(tokens))
    products = counter.get_flop_counts()["Global"][torch.ops.aten.mm]
    flops = forward_flops(config, length)
    products_of_attention = flops.pop("attention products")
    assert sum(flops.values()) * length == pytest.approx(products)
    masks = packed_attention(config, tokens).seen
    seen = sum(int(masks[config.layer_type(layer)].mask.sum()) for layer in range(3))
    sizes_of_head = config.head_dim + (config.latent.v_head_dim if config.latent else config.head_dim)
    assert products_of_attention * length == pytest.approx(2 * config.num_attention_heads * sizes_of_head * seen)


def test_a_sliding_layer_keeps_its_window_and_a_full_layer_everything(shape):
    config = shape(num_hidden_layers=4, global_attn_every_n_layers=4, sliding_window=8, max_position_embeddings=100)
    numbers = 2 * config.num_key_value_heads * config.head_dim
    assert kv_cache_bytes(config, 5, 2.0) == 2 * numbers * 4 * 5
    assert kv_cache_bytes(config, 50, 2.0) == 2 * numbers * (3 * 8 + 50)
