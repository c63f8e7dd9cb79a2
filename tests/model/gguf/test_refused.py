"""What llama.cpp cannot run, and what is no whole folder, gets one line and no file."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from troth.model.gguf.export import export_gguf

NORM = "model.norm.weight"
YARN = {"factor": 2.0, "original_max_position_embeddings": 64}
TINY = {"hidden_size": 8, "moe_intermediate_size": 4, "intermediate_size": 4, "num_experts": 2, "num_dense_layers": 0}


@pytest.mark.parametrize(
    ("family", "changes", "told"),
    [
        ("afmoe", {"mup_enabled": False}, "mup_enabled=False, which llama.cpp's architecture afmoe cannot run"),
        ("mixtral", {"sliding_window": 16}, "sliding_window=16, which llama.cpp's architecture llama"),
        ("olmoe", {"norm_topk_prob": True}, "norm_topk_prob=True"),
        ("olmoe", {"num_key_value_heads": 2}, "num_key_value_heads=2 (not 4)"),
        ("olmoe", {"tie_word_embeddings": True}, "tie_word_embeddings=True"),
        ("olmoe", {"head_dim": 16}, "head_dim=16 (not hidden_size / num_attention_heads)"),
        ("qwen3_moe", {"num_dense_layers": 1}, "mlp_only_layers=[0]"),
        ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob=False"),
        ("afmoe", {"yarn": YARN | {"beta_fast": 8.0}}, "rope_parameters.beta_fast=8.0 (not 32.0)"),
        ("gpt_oss", {"swiglu_limit": 5.0}, "swiglu_limit=5.0 (not 7.0), which llama.cpp's architecture gpt-oss"),
        ("gpt_oss", {"swiglu_alpha": 1.5}, "swiglu_alpha=1.5 (not 1.702)"),
        ("gpt_oss", {"tie_word_embeddings": True}, "tie_word_embeddings=True"),
        ("deepseek_v3", {"rms_norm_eps": 1e-5}, "rms_norm_eps=1e-05 (not 1e-06), which llama.cpp's architecture deeps"),
        ("grok-1", {"attention_softcap": None}, "max_attn_value=None, which llama.cpp's architecture grok"),
        ("grok-1", {"head_dim": 16}, "head_dim=16 (not hidden_size / num_attention_heads)"),
        ("deepseek_v3", {"num_shared_experts": 0}, "n_shared_experts=0"),
        ("deepseek_v3", {"num_hidden_layers": 27}, "q_lora_rank=24 with num_hidden_layers=27"),
        (
            "deepseek_v3",
            {"yarn": YARN | {"factor": 1.0, "attention_factor": 1.2}},
            "rope_parameters.attention_factor=1.2 with a factor of 1",
        ),
        ("qwen3_moe", {"num_experts": 1025, "moe_intermediate_size": 1}, "num_experts=1025 (more than 1,024)"),
        (
            "afmoe",
            {"num_hidden_layers": 257, "global_attn_every_n_layers": 2} | TINY,
            "num_hidden_layers=257 (more than 512 layers there), which llama.cpp's architecture afmoe cannot run",
        ),
    ],
)
def test_what_llama_cpp_cannot_run_is_refused(make_folder, tmp_path, family, changes, told):
    folder, _ = make_folder(family, **changes)
    with pytest.raises(ValueError, match=re.escape(told)):
        export_gguf(folder, tmp_path / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_family_without_an_architecture_is_named(make_folder, tmp_path):
    beside = {"num_shared_experts": 1, "feed_forward_scale": 1 / 2**0.5}
    folder, _ = make_folder("grok-1", model_type="grok-2", **beside)
    told = "model_type='grok-2': known for GGUF are afmoe, deepseek_v3, gpt_oss, grok-1, mixtral, olmoe, qwen3_moe"
    with pytest.raises(ValueError, match=re.escape(told)):
        export_gguf(folder, tmp_path / "model.gguf")


def test_a_type_that_is_not_known_is_named(make_folder, tmp_path):
    folder, _ = make_folder("afmoe")
    with pytest.raises(ValueError, match=re.escape("--type q4: known are bf16, q8_0, f32")):
        export_gguf(folder, tmp_path / "model.gguf", "q4")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensors: tensors.pop(NORM), f"tensor {NORM} is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), "unexpected tensor extra"),
        (lambda tensors: tensors.update({NORM: torch.zeros(31)}), f"tensor {NORM} has shape [31], expected [32]"),
    ],
)
def test_the_file_is_whole_or_as_it_was(make_folder, tmp_path, change, told):
    folder, _ = make_folder("afmoe")
    path = tmp_path / "model.gguf"
    path.write_text("an older file")
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=re.escape(told)):
        export_gguf(folder, path)
    assert path.read_text() == "an older file"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model", "model.gguf"]
