"""A saved folder loads in transformers and says there what it says here."""

import json

import pytest
import torch
from safetensors.torch import load_file

from troth.model.counts import count_parameters
from troth.model.families.configs import read_config, to_hf_config
from troth.model.families.weights import load_weights, save_weights

LENGTHS = 1, 5, 8, 9, 31
"""Shorter than the sliding window of 8, as long, and several times as long."""


def check_logits(ours, theirs, vocab_size):
    """The same logits for rows of several lengths, alone and padded to one batch."""
    random = torch.Generator().manual_seed(0)
    rows = [torch.randint(vocab_size, (size,), generator=random) for size in LENGTHS]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    with torch.no_grad():
        together = theirs(padded, attention_mask=mask).logits
        for row, expected in zip(rows, together, strict=True):
            logits = ours.logits(ours(row[None]))[0]
            assert logits.std() > 0.1
            torch.testing.assert_close(logits, theirs(row[None]).logits[0], atol=1e-4, rtol=0)
            torch.testing.assert_close(logits, expected[: len(row)], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True},
        {"num_key_value_heads": 4, "num_dense_layers": 0},
        {"num_key_value_heads": 1, "num_dense_layers": 2, "num_shared_experts": 2},
        {"num_experts_per_tok": 1, "route_scale": 2.5, "rope_theta": 500.0},
        {"num_experts": 3, "num_experts_per_tok": 3, "global_attn_every_n_layers": 2, "mup_enabled": False},
        {"num_hidden_layers": 1, "num_dense_layers": 1, "rms_norm_eps": 1e-3},
    ],
)
def test_logits_are_those_of_transformers(shape, random_network, tmp_path, changes):
    from transformers import AfmoeForCausalLM

    config = shape(**changes)
    model = random_network(config)
    save_weights(model, to_hf_config(config, "float32", eos_token_id=0), tmp_path)
    theirs = AfmoeForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    check_logits(load_weights(tmp_path), theirs, config.vocab_size)


SIZES = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 64, "num_experts_per_tok": 2,
}  # fmt: skip
OTHERS = {
    "mixtral": {"num_local_experts": 5, "head_dim": 8},
    "mixtral with a window": {"num_local_experts": 5, "head_dim": 8, "sliding_window": 8},
    "qwen3_moe": {"num_experts": 5, "head_dim": 16, "moe_intermediate_size": 12, "norm_topk_prob": True},
    "qwen3_moe with a dense layer": {
        "num_experts": 5, "head_dim": 16, "moe_intermediate_size": 12, "norm_topk_prob": False, "mlp_only_layers": [0],
        "tie_word_embeddings": True,
    },
    "qwen3_moe stretched by YaRN": {
        "num_experts": 5, "head_dim": 32, "moe_intermediate_size": 12,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 16,
        },
    },
    "mixtral stretched, with all of YaRN's settings": {
        "num_local_experts": 5, "head_dim": 16,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 500.0, "factor": 2.5, "original_max_position_embeddings": 24,
            "beta_fast": 8.0, "beta_slow": 2.0, "attention_factor": 1.3,
        },
    },
    "olmoe": {"num_experts": 5, "num_experts_per_tok": 3},
    "deepseek_v3": {
        "num_key_value_heads": 4, "n_routed_experts": 12, "n_group": 3, "topk_group": 2, "moe_intermediate_size": 12,
        "q_lora_rank": 20, "kv_lora_rank": 24, "qk_nope_head_dim": 10, "qk_rope_head_dim": 8, "v_head_dim": 14,
        "first_k_dense_replace": 1, "n_shared_experts": 2, "num_experts_per_tok": 3,
    },
    "deepseek_v3 without groups or a latent of queries, not renormalised": {
        "num_key_value_heads": 4, "n_routed_experts": 5, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 12,
        "q_lora_rank": None, "kv_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 4, "v_head_dim": 8,
        "first_k_dense_replace": 0, "norm_topk_prob": False, "routed_scaling_factor": 1.0,
    },
    "deepseek_v3 whose latents are normalised as in the release": {
        "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 12,
        "q_lora_rank": 20, "kv_lora_rank": 24, "qk_nope_head_dim": 10, "qk_rope_head_dim": 8, "v_head_dim": 14,
        "first_k_dense_replace": 1, "rms_norm_eps": 0.01,
    },
    "deepseek_v3 stretched as it was released": {
        "num_key_value_heads": 4, "n_routed_experts": 8, "n_group": 4, "topk_group": 1, "moe_intermediate_size": 12,
        "q_lora_rank": 20, "kv_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 16,
        "first_k_dense_replace": 2,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 10_000.0, "factor": 40.0, "original_max_position_embeddings": 16,
            "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
        },
    },
    "gpt_oss": {
        "num_local_experts": 5, "num_experts_per_tok": 3, "head_dim": 32, "sliding_window": 8, "swiglu_limit": 0.8,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 150_000.0, "factor": 32.0, "original_max_position_embeddings": 16,
            "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
        },
    },
    "gpt_oss with another gate": {
        "num_local_experts": 4, "head_dim": 8, "sliding_window": 4, "swiglu_alpha": 1.2, "num_hidden_layers": 4,
    },
    "olmoe renormalised": {"num_experts": 5, "norm_topk_prob": True, "num_key_value_heads": 4},
}  # fmt: skip


def random_model(name):
    """A network of transformers in which no weight is zero or one."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(name.split()[0], **(SIZES | OTHERS[name]))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name:
                parameter.uniform_(0.5, 1.5, generator=generator)
            else:
                parameter.normal_(0, 0.3, generator=generator)
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("bias"):
                buffer.uniform_(-0.3, 0.3, generator=generator)
    return model


@pytest.mark.parametrize("name", OTHERS)
def test_other_families_speak_as_in_transformers(tmp_path, name):
    theirs = random_model(name)
    theirs.save_pretrained(tmp_path)
    ours = load_weights(tmp_path)
    check_logits(ours, theirs, SIZES["vocab_size"])
    counts = count_parameters(ours.config)
    assert counts.total == sum(parameter.numel() for parameter in theirs.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", OTHERS)
def test_a_folder_comes_back_as_it_was(tmp_path, name, dtype):
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    model = random_model(name).to(dtype)
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("bias"):
            buffer.data = buffer.data.float()  # as DeepSeek-V3 was released
    model.save_pretrained(theirs)
    ours.mkdir()
    data = json.loads((theirs / "config.json").read_text())
    save_weights(load_weights(theirs, dtype), data, ours)
    assert json.loads((ours / "config.json").read_text()) == data
    before, after = (load_file(folder / "model.safetensors") for folder in (theirs, ours))
    assert before.keys() == after.keys()
    for tensor in before:
        assert before[tensor].dtype == after[tensor].dtype
        assert torch.equal(before[tensor], after[tensor]), tensor


@pytest.mark.parametrize("name", OTHERS)
def test_a_config_of_ours_is_one_of_theirs(tmp_path, name):
    from transformers import AutoConfig

    random_model(name).config.save_pretrained(tmp_path)
    config = read_config(tmp_path)
    written = to_hf_config(config, "float32", eos_token_id=0)
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert read_config(tmp_path) == config
    theirs = AutoConfig.from_pretrained(tmp_path)
    for key, value in (SIZES | OTHERS[name]).items():
        found = getattr(theirs, key)
        assert found == value or found.items() >= value.items(), key


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("mixtral", ["rms_norm_eps", "rope_parameters", "sliding_window"]),
        ("qwen3_moe", ["rms_norm_eps", "norm_topk_prob", "mlp_only_layers"]),
        ("olmoe renormalised", ["rms_norm_eps", "norm_topk_prob", "tie_word_embeddings"]),
        ("deepseek_v3", ["rms_norm_eps", "routed_scaling_factor", "norm_topk_prob", "rope_parameters"]),
        ("gpt_oss", ["rms_norm_eps", "swiglu_limit", "swiglu_alpha", "rope_parameters"]),
    ],
)
def test_keys_that_are_absent_mean_what_transformers_takes_them_to(tmp_path, name, absent):
    from transformers import AutoConfig

    random_model(name).config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in data.items() if key not in absent}))
    config = read_config(tmp_path)
    AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert json.loads(path.read_text()).keys() >= {*absent}
    assert config == read_config(tmp_path)


def test_the_bias_steers_the_choice_in_both(shape, random_network, tmp_path):
    from transformers import AfmoeForCausalLM

    config = shape()
    model = random_network(config)
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        before = model.logits(model(tokens))
        for moe in model.moe_layers():
            moe.expert_bias.copy_(torch.tensor([9.0, 9.0, 0, 0, 0, 0]))
        after = model.logits(model(tokens))
        save_weights(model, to_hf_config(config, "float32", eos_token_id=0), tmp_path)
        theirs = AfmoeForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()(tokens).logits
    assert (after - before).abs().max() > 0.01
    torch.testing.assert_close(after, theirs, atol=1e-4, rtol=0)
