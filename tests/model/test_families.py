"""The Hugging Face folder: what is saved is what is loaded, and what is wrong with a folder is said by name."""

import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from troth.model.config import Yarn
from troth.model.counts import forward_flops
from troth.model.families.configs import FAMILIES, from_hf_config, to_hf_config
from troth.model.families.weights import load_weights, save_weights

SMALL = {
    "vocab_size": 90, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2,
    "moe_intermediate_size": 8, "num_attention_heads": 4, "num_experts": 4, "num_local_experts": 4,
    "num_experts_per_tok": 2, "max_position_embeddings": 64, "n_routed_experts": 4, "n_shared_experts": 1,
    "first_k_dense_replace": 0, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 8,
}  # fmt: skip


@pytest.fixture
def folder(shape, random_network, tmp_path):
    config = shape()
    save_weights(random_network(config), to_hf_config(config, "float32", eos_token_id=7), tmp_path)
    return tmp_path


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"num_dense_layers": 0}, {"num_experts": 2}])
def test_loaded_is_what_was_saved(shape, random_network, tmp_path, changes):
    config = shape(**changes)
    model = random_network(config)
    save_weights(model, to_hf_config(config, "float32", eos_token_id=7), tmp_path)
    loaded = load_weights(tmp_path)
    assert loaded.config == config
    assert not loaded.training
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert (loaded.lm_head.weight is loaded.embed_tokens.weight) == config.tie_word_embeddings


def test_in_bfloat16_the_bias_of_routers_stays_as_it_is(shape, random_network, tmp_path):
    config = shape()
    model = random_network(config)
    save_weights(model, to_hf_config(config, "bfloat16", eos_token_id=7), tmp_path)
    loaded = load_weights(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert torch.equal(loaded.embed_tokens.weight, model.embed_tokens.weight.bfloat16())
    for moe, original in zip(loaded.moe_layers(), model.moe_layers(), strict=True):
        assert moe.expert_bias.dtype == torch.float32
        assert torch.equal(moe.expert_bias, original.expert_bias)
        assert torch.equal(moe.load_E, torch.zeros(config.num_experts))
    assert load_file(tmp_path / "model.safetensors")["model.norm.weight"].dtype == torch.bfloat16


EXPERT = "model.layers.2.mlp.experts.3.down_proj.weight"


def without(tensors):
    del tensors[EXPERT]


def with_another(tensors):
    tensors["model.layers.9.mlp.extra"] = torch.zeros(2)


def transposed(tensors):
    tensors[EXPERT] = tensors[EXPERT].T.contiguous()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without, f"tensor {EXPERT} is missing"),
        (with_another, "unexpected tensor model.layers.9.mlp.extra"),
        (transposed, f"tensor {EXPERT} has shape [16, 32], expected [32, 16]"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(folder, change, told):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {told}")):
        load_weights(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.9])
def test_a_truncated_file_is_named(folder, share):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_weights(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_an_absent_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=re.escape(str(folder / name))):
        load_weights(folder)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "llama"}, "model_type='llama'"),
        ({"model_type": None, "architectures": None}, "model_type=None"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope_parameters.rope_type='llama3'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_parameters.original_max_position_embeddings"),
        ({"rope_parameters": {"rope_type": "yarn", "attn_factor": 2.0}}, "rope_parameters.attn_factor=2.0"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_scaling.type='yarn' stands beside rope_parameters"),
        ({"is_causal": False}, "is_causal=False: only True is known"),
        ({"rope_parameters": [1e4]}, "rope_parameters=[10000.0]: expected an object"),
        ({"quantization_config": "fp8"}, "quantization_config='fp8': expected an object"),
        ({"layer_types": ["full_attention"] * 4}, "layer_types"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_experts": "many"}, "num_experts"),
        ({"num_experts": 1}, "num_experts_per_tok=2 exceeds num_experts=1"),
    ],
)
def test_a_config_that_is_not_ours_is_explained_in_one_line(folder, changes, told):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        load_weights(folder)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"afmoe"', "\xff"])
def test_a_config_that_is_no_object_is_named(folder, text):
    path = folder / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_weights(folder)


def test_the_older_place_of_rope_theta_is_read_too(shape):
    data = to_hf_config(shape(), "float32", eos_token_id=7)
    del data["rope_parameters"]
    assert from_hf_config(data | {"rope_theta": 500.0}).rope_theta == 500.0
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    config = from_hf_config(data | {"rope_theta": 500.0, "rope_scaling": scaling})
    assert (config.rope_theta, config.yarn) == (500.0, Yarn(factor=4.0, original_max_position_embeddings=32))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rope_theta": 500.0, "tie_word_embeddings": True, "mup_enabled": False},
        {"yarn": {"factor": 16.0, "original_max_position_embeddings": 8192, "beta_fast": 8.0}},
    ],
)
def test_config_there_and_back(shape, changes):
    config = shape(**changes)
    assert from_hf_config(json.loads(json.dumps(to_hf_config(config, "float32", eos_token_id=7)))) == config


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"qk_norm": "none"}, "qk_norm='none': model_type afmoe has 'head'"),
        ({"sliding_window": None}, "sliding_window: model_type afmoe needs one"),
        ({"model_type": "olmoe"}, "num_dense_layers=1: model_type olmoe has 0"),
    ],
)
def test_what_a_family_cannot_express_is_named(shape, changes, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        to_hf_config(shape(**changes), "float32", eos_token_id=0)


@pytest.mark.parametrize(
    ("family", "changes", "told"),
    [
        ("qwen3_moe", {"mlp_only_layers": [1]}, "mlp_only_layers=[1]: only the first layers may be dense"),
        ("qwen3_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step=2: only 1 is known"),
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv=8.0: only None is known"),
        ("mixtral", {"num_local_experts": None}, "num_local_experts: Field required"),
        ("deepseek_v3", {"qk_rope_head_dim": "some"}, "qk_rope_head_dim: Input should be a valid integer"),
        ("deepseek_v3", {"kv_lora_rank": None}, "kv_lora_rank: Field required"),
        ("mixtral", {"hidden_act": "gelu"}, "hidden_act='gelu': only 'silu' is known"),
    ],
)
def test_what_troth_cannot_express_is_named(family, changes, told):
    data = SMALL | {"model_type": family}
    assert from_hf_config(data).head_dim == 8
    with pytest.raises(ValueError, match=re.escape(told)):
        from_hf_config(data | changes)


KEYS = {"model_type", "architectures", "mlp_only_layers", *SMALL}.union(
    *(one.all_keys.values() for one in FAMILIES.values())
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([2**31, 10**30]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(
    family=st.sampled_from(["mixtral", "qwen3_moe", "olmoe", "deepseek_v3"]),
    changes=st.dictionaries(st.sampled_from(sorted(KEYS)), VALUES, max_size=2),
)
def test_any_config_is_read_or_refused(family, changes):
    try:
        config = from_hf_config(SMALL | {"model_type": family} | changes)
    except ValueError:
        return
    assert sum(forward_flops(config, 64).values()) > 0
