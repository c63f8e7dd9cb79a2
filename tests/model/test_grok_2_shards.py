"""A release of Grok-2's layout, made up small: eight ranks' parts of the experts become whole, to the bit."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from troth.cli.convert import command as convert
from troth.model.families.configs import from_hf_config
from troth.model.families.grok_2_shards import open_grok_2
from troth.model.families.weights import load_weights, stored_shapes

CONFIG = {
    "architectures": ["Grok1ForCausalLM"], "model_type": "git", "vocab_size": 40, "hidden_size": 24,
    "intermediate_size": 48, "moe_intermediate_size": 16, "num_hidden_layers": 2, "num_local_experts": 3,
    "num_experts_per_tok": 2, "residual_moe": True, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "torch_dtype": "bfloat16", "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
}  # fmt: skip
RANKS = 8
GROUPS = [
    "embed_tokens", "lm_head", "model.norm", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj", ".w1", ".w2", ".w3",
    "k_proj", "o_proj", "q_proj", "v_proj", "pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm",
    "moe.gate",
]  # fmt: skip
"""What the numbered files of the release hold, in their order."""
AXES = {".w1": 0, ".w3": 0, ".w2": 1}


@pytest.fixture
def release(tmp_path):
    """A released folder, and its weights before they were cut."""
    folder = tmp_path / "grok-2"
    folder.mkdir()
    shapes = stored_shapes(from_hf_config(CONFIG))
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator).bfloat16() for name, shape in shapes.items()}
    for number, group in enumerate(GROUPS):
        held = {name: weight for name, weight in weights.items() if f"{group}." in name}
        file = f"pytorch_model-{number:05d}-TP"
        if group not in AXES:
            save_file(held, folder / f"{file}-common.safetensors")
            continue
        for rank in range(RANKS):
            parts = {name: weight.chunk(RANKS, AXES[group])[rank].contiguous() for name, weight in held.items()}
            save_file(parts, folder / f"{file}-{rank:03d}.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.tok.json").write_text("{}")
    return folder, weights


def change(file, name, value):
    """Give a tensor of a file another value, or take it out."""
    held = load_file(file)
    assert name in held
    save_file({key: tensor for key, tensor in (held | {name: value}).items() if tensor is not None}, file)


def test_the_parts_of_eight_ranks_become_whole(release):
    folder, weights = release
    given = dict(open_grok_2(folder).tensors())
    assert given.keys() == weights.keys()
    for name, weight in weights.items():
        assert given[name].dtype == torch.bfloat16
        assert torch.equal(given[name], weight), name


def test_other_weights_may_be_cut_as_well(release):
    folder, weights = release
    name = "model.layers.1.self_attn.o_proj.weight"
    for number, group in enumerate(GROUPS):
        if group == "o_proj":
            file = folder / f"pytorch_model-{number:05d}-TP-common.safetensors"
            for rank in range(RANKS):
                parts = {key: value.chunk(RANKS, 1)[rank].contiguous() for key, value in load_file(file).items()}
                save_file(parts, folder / file.name.replace("common", f"{rank:03d}"))
            file.unlink()
    assert torch.equal(dict(open_grok_2(folder).tensors())[name], weights[name])


@pytest.mark.parametrize("rank", [0, 3, 7])
def test_a_missing_file_of_a_rank_is_named(release, rank):
    folder, _ = release
    file = folder / f"pytorch_model-00006-TP-{rank:03d}.safetensors"
    file.unlink()
    with pytest.raises(ValueError, match=re.escape(f"{file}: tensor model.layers.0.block_sparse_moe.experts.0.w1")):
        open_grok_2(folder)


def test_a_rank_without_any_file_is_missed(release):
    folder, _ = release
    for file in folder.glob("*-TP-007.safetensors"):
        file.unlink()
    told = r"TP-000\.safetensors: tensor .* cannot be in 7 equal parts"
    with pytest.raises(ValueError, match=told):
        open_grok_2(folder)
    for rank in (4, 5, 6):
        for file in folder.glob(f"*-TP-00{rank}.safetensors"):
            file.unlink()
    told = r"TP-000\.safetensors: tensor .* has shape \[2, 24\], expected \[4, 24\]; 4 ranks share \[16, 24\]"
    with pytest.raises(ValueError, match=told):
        open_grok_2(folder)


def test_parts_that_do_not_fit_each_other_are_named(release):
    folder, _ = release
    file, name = (
        folder / "pytorch_model-00008-TP-005.safetensors",
        "model.layers.1.block_sparse_moe.experts.0.w3.weight",
    )
    change(file, name, torch.zeros(3, 24, dtype=torch.bfloat16))
    told = f"{file}: tensor {name} has shape [3, 24], expected [2, 24]"
    with pytest.raises(ValueError, match=re.escape(told)):
        open_grok_2(folder)
    change(file, name, torch.zeros(2, 24))
    told = f"{file}: tensor {name} is of type F32, rank 000 has BF16"
    with pytest.raises(ValueError, match=re.escape(told)):
        open_grok_2(folder)
    change(file, name, None)
    with pytest.raises(ValueError, match=re.escape(f"{file}: tensor {name} is missing")):
        open_grok_2(folder)


def test_a_whole_tensor_is_in_one_file_of_its_shape(release):
    folder, _ = release
    file = folder / "pytorch_model-00013-TP-common.safetensors"
    again = folder / "pytorch_model-00018-TP-common.safetensors"
    save_file(load_file(file), again)
    with pytest.raises(
        ValueError, match=re.escape(f"{again}: tensor model.layers.0.pre_attn_norm.weight is in {file.name}")
    ):
        open_grok_2(folder)
    again.rename(again.with_name(again.name.replace("common", "000")))
    with pytest.raises(ValueError, match=r"is in .* as well"):
        open_grok_2(folder)
    again.with_name(again.name.replace("common", "000")).unlink()
    change(file, "model.layers.1.pre_attn_norm.weight", torch.zeros(23, dtype=torch.bfloat16))
    told = f"{file}: tensor model.layers.1.pre_attn_norm.weight has shape [23], expected [24]"
    with pytest.raises(ValueError, match=re.escape(told)):
        open_grok_2(folder)
    file.unlink()
    told = f"{folder}: tensor model.layers.0.pre_attn_norm.weight is missing, though config.json asks for it"
    with pytest.raises(ValueError, match=re.escape(told)):
        open_grok_2(folder)
    save_file({"stray": torch.zeros(2)}, file)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": 0}))
    with pytest.raises(ValueError, match=r"config\.json: num_hidden_layers: "):
        open_grok_2(folder)


def test_a_tensor_that_no_one_asks_for_is_named(release):
    folder, _ = release
    file = folder / "pytorch_model-00018-TP-common.safetensors"
    save_file({"stray": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match=re.escape(f"{file}: unexpected tensor stray")):
        open_grok_2(folder)
    file.write_bytes(b"no safetensors")
    with pytest.raises(ValueError, match=re.escape(str(file))):
        open_grok_2(folder)


def test_grok_2_becomes_a_hugging_face_folder(release, tmp_path):
    folder, weights = release
    convert(folder, tmp_path / "out")
    given = load_file(tmp_path / "out" / "model.safetensors")
    assert given.keys() == weights.keys()
    assert all(torch.equal(given[name], weight) for name, weight in weights.items())
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == CONFIG | {"load_presharded_moe": False}
    assert (tmp_path / "out" / "tokenizer.tok.json").read_text() == "{}"
    model, tokens = load_weights(tmp_path / "out"), torch.arange(8)[None]
    assert torch.equal(model.embed_tokens.weight, weights["model.embed_tokens.weight"].float())
    assert model.logits(model(tokens)).isfinite().all()
