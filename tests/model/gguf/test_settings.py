"""The settings of GGUF files, under llama.cpp's keys."""

import numpy as np
import pytest

from troth.model.gguf.export import export_gguf


def test_settings_of_the_native_family(make_folder, read_settings, tmp_path):
    yarn = {"factor": 4.0, "original_max_position_embeddings": 32, "attention_factor": 1.5}
    folder, _ = make_folder("afmoe", yarn=yarn)
    export_gguf(folder, tmp_path / "model.gguf", "q8_0")
    settings = read_settings(tmp_path / "model.gguf")
    expected = {
        "general.architecture": "afmoe", "general.name": "model", "general.file_type": 7,
        "afmoe.block_count": 4, "afmoe.context_length": 128, "afmoe.embedding_length": 32,
        "afmoe.feed_forward_length": 48, "afmoe.expert_feed_forward_length": 16, "afmoe.expert_count": 6,
        "afmoe.expert_used_count": 2, "afmoe.expert_shared_count": 1, "afmoe.expert_gating_func": 2,
        "afmoe.expert_weights_norm": True, "afmoe.expert_weights_scale": 2.5, "afmoe.leading_dense_block_count": 1,
        "afmoe.attention.head_count": 4, "afmoe.attention.head_count_kv": 2, "afmoe.attention.key_length": 8,
        "afmoe.attention.sliding_window": 8, "afmoe.attention.sliding_window_pattern": [True, True, True, False],
        "afmoe.rope.freq_base": 10_000.0, "afmoe.rope.scaling.type": "yarn", "afmoe.rope.scaling.factor": 4.0,
        "afmoe.rope.scaling.original_context_length": 32,
    }  # fmt: skip
    assert {key: settings[key] for key in expected} == expected
    # llama.cpp multiplies by 0.1 ln 4 + 1 of its own.
    assert settings["afmoe.rope.scaling.attn_factor"] == pytest.approx(1.5 / (0.1 * np.log(4) + 1))


@pytest.mark.parametrize(
    ("family", "prefix", "lengths"),
    [("mixtral", "llama", (16, None)), ("olmoe", "olmoe", (16, None)), ("qwen3_moe", "qwen3moe", (16, 16))],
)
def test_settings_of_other_families(make_folder, read_settings, tmp_path, family, prefix, lengths):
    folder, config = make_folder(family)
    export_gguf(folder, tmp_path / "model.gguf")
    settings = read_settings(tmp_path / "model.gguf")
    assert settings["general.architecture"] == prefix
    assert settings[f"{prefix}.feed_forward_length"] == lengths[0]
    assert settings[f"{prefix}.rope.dimension_count"] == config.head_dim
    assert settings.get(f"{prefix}.expert_feed_forward_length") == lengths[1]
    assert not any("scaling" in key or "sliding" in key for key in settings)


def test_settings_of_gpt_oss(make_folder, read_settings, tmp_path):
    folder, _ = make_folder("gpt_oss")
    export_gguf(folder, tmp_path / "model.gguf")
    settings = read_settings(tmp_path / "model.gguf")
    expected = {
        "general.architecture": "gpt-oss", "gpt-oss.expert_feed_forward_length": 16, "gpt-oss.expert_count": 6,
        "gpt-oss.attention.sliding_window": 8, "gpt-oss.attention.key_length": 8, "gpt-oss.rope.dimension_count": 8,
    }  # fmt: skip
    assert {key: settings[key] for key in expected} == expected


def test_settings_of_deepseek_v3(make_folder, read_settings, tmp_path):
    """All heads have one key there, of 16 numbers of the latent, which are its value too, and 8 that are turned."""
    yarn = {"factor": 4.0, "original_max_position_embeddings": 32, "mscale": 1.0, "mscale_all_dim": 1.0}
    folder, _ = make_folder("deepseek_v3", yarn=yarn)
    export_gguf(folder, tmp_path / "model.gguf")
    settings = read_settings(tmp_path / "model.gguf")
    expected = {
        "general.architecture": "deepseek2", "deepseek2.leading_dense_block_count": 1,
        "deepseek2.feed_forward_length": 48, "deepseek2.expert_feed_forward_length": 16, "deepseek2.expert_count": 6,
        "deepseek2.expert_used_count": 2, "deepseek2.expert_shared_count": 2, "deepseek2.expert_gating_func": 2,
        "deepseek2.expert_weights_norm": True, "deepseek2.expert_weights_scale": 2.5,
        "deepseek2.expert_group_count": 3, "deepseek2.expert_group_used_count": 1,
        "deepseek2.attention.head_count": 4, "deepseek2.attention.head_count_kv": 1,
        "deepseek2.attention.q_lora_rank": 24, "deepseek2.attention.kv_lora_rank": 16,
        "deepseek2.attention.key_length": 24, "deepseek2.attention.value_length": 16,
        "deepseek2.attention.key_length_mla": 40, "deepseek2.attention.value_length_mla": 12,
        "deepseek2.rope.dimension_count": 8, "deepseek2.rope.scaling.attn_factor": 1.0,
    }  # fmt: skip
    assert {key: settings[key] for key in expected} == expected
    # As llama.cpp's own files of DeepSeek-V3 have it: a tenth of `mscale_all_dim`.
    assert settings["deepseek2.rope.scaling.yarn_log_multiplier"] == pytest.approx(0.1)


def test_settings_of_grok_1(make_folder, read_settings, tmp_path):
    folder, _ = make_folder("grok-1")
    export_gguf(folder, tmp_path / "model.gguf")
    settings = read_settings(tmp_path / "model.gguf")
    expected = {
        "general.architecture": "grok", "grok.expert_feed_forward_length": 16,
        "grok.embedding_scale": pytest.approx(32**0.5), "grok.attention.output_scale": pytest.approx(8**-0.5),
        "grok.logit_scale": pytest.approx(0.6), "grok.attn_logit_softcapping": 30.0,
    }  # fmt: skip
    assert {key: settings[key] for key in expected} == expected


@pytest.mark.parametrize("truncate", [True, False])
def test_yarn_whose_borders_llama_cpp_will_round_is_told(make_folder, tmp_path, truncate):
    yarn = {"factor": 2.0, "original_max_position_embeddings": 64, "truncate": truncate}
    folder, _ = make_folder("gpt_oss", yarn=yarn)
    assert export_gguf(folder, tmp_path / "model.gguf").rounded is not truncate
