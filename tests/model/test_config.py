"""A shape that cannot be is refused by name."""

import re

import pytest


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
