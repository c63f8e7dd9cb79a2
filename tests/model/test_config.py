"""A shape that cannot be is refused by name; the parameters of one that can are counted without building it."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from troth.model.config import ModelConfig
from troth.model.counts import count_parameters
from troth.model.decoder import Decoder


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hidden_size": 0}, "hidden_size"),
        ({"head_dim": 7}, "head_dim"),
        ({"num_shared_experts": "some"}, "num_shared_experts"),
        ({"sliding_window": -1}, "sliding_window"),
        ({"rope_theta": 0}, "rope_theta"),
        ({"layers": 3}, "layers"),
        ({"num_key_value_heads": 3}, "num_attention_heads=4 is not a multiple of num_key_value_heads=3"),
        ({"num_experts_per_tok": 7}, "num_experts_per_tok=7 exceeds num_experts=6"),
        ({"num_dense_layers": 5}, "num_dense_layers=5 exceeds num_hidden_layers=4"),
    ],
)
def test_what_does_not_fit_is_named(shape, changes, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        shape(**changes)


def test_every_nth_layer_sees_everything(shape):
    config = shape(num_hidden_layers=6, global_attn_every_n_layers=3)
    assert [layer for layer in range(6) if config.layer_type(layer) == "full_attention"] == [2, 5]
    assert [config.is_moe(layer) for layer in range(3)] == [False, True, True]


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


@given(configs())
def test_counts_are_those_of_the_network(config):
    with torch.device("meta"):
        model = Decoder(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    routed = sum(parameter.numel() for moe in model.moe_layers() for parameter in moe.experts.parameters())
    working = routed * config.num_experts_per_tok // config.num_experts
    counts = count_parameters(config)
    assert counts.total == total
    assert counts.active == total - routed + working
