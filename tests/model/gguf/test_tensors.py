"""GGUF files, read back: every number of the folder is in them, under llama.cpp's names."""

import re

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from safetensors.torch import load_file, save_file

from troth.model.families.weights import load_weights
from troth.model.gguf.architectures import ARCHITECTURES
from troth.model.gguf.export import export_gguf

RENAMED = {
    r"expert_bias$": "expert_bias.bias", r"correction_bias$": "correction.bias",
    r"^model\.(.*)block_sparse_moe\.experts": r"\1feed_forward.experts",
    # Grok-1's, as its release calls them.
    r"norm\.scale$": "norm.weight", r"\.attn\.": ".self_attn.", r"moe_block\.gate": "block_sparse_moe.gate",
    r"model\.layers\.(\d+)\.moe_block\.experts": r"transformer.decoder_layer.\1.moe",
    r"model\.layers\.(\d+)\.post_moe_norm": r"transformer.decoder_layer.\1.rms_norm_3",
}  # fmt: skip
"""Names that the gguf package knows where it does not know a folder's."""
ROTARY = re.compile(r"blk\.\d+\.attn_[qk]\.weight")


def expected_tensors(folder, config):
    """The folder's tensors in float32, experts stacked, under the names that the gguf package knows for them."""
    tensors = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    experts = {}
    for name in [name for name in tensors if re.search(r"experts\.\d", name)]:
        experts.setdefault(re.sub(r"experts\.\d+", "experts", name), []).append(tensors.pop(name))
    for name in [name for name in tensors if re.search(r"kv_b_proj|sinks|mlp\.experts\.(gate_up|down)_p", name)]:
        tensors |= llama_parts(name, tensors.pop(name), config)
    architecture = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == llama_name(config))
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    stacked = {name: torch.stack(parts) for name, parts in experts.items()}
    found = {}
    for name, tensor in (tensors | stacked).items():
        for ours, known in RENAMED.items():
            name = re.sub(ours, known, name)
        theirs = names.get_name(name, (".weight", ".bias"))
        assert theirs is not None, name
        found[theirs] = tensor
    return found


def llama_parts(name, tensor, config):
    """Tensors that llama.cpp has apart or turned: gpt-oss's experts, and what forms DeepSeek-V3's keys and values."""
    if "kv_b_proj" in name:
        heads = tensor.view(config.num_attention_heads, -1, tensor.shape[1])
        keys = heads[:, : config.latent.qk_nope_head_dim].transpose(1, 2)
        values = heads[:, config.latent.qk_nope_head_dim :]
        return {name.replace("kv_b", "k_b"): keys, name.replace("kv_b", "v_b"): values}
    kind = ".bias" if name.endswith("_bias") else ".weight"
    name = name.removesuffix("_bias") + kind
    if tensor.dim() == 3:
        tensor = tensor.transpose(1, 2)
    if "gate_up" not in name:
        return {name: tensor}
    return {name.replace("gate_up", "gate"): tensor[:, ::2], name.replace("gate_up", "up"): tensor[:, 1::2]}


def llama_name(config):
    return ARCHITECTURES[config.model_type].name


def read_tensors(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def numbers(tensor):
    """A tensor of a file in float32."""
    shape = tuple(int(size) for size in reversed(tensor.shape))
    return torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type))).reshape(shape)


def rotated(name, tensor, config):
    """Rows of queries and keys as llama.cpp's `llama` wants them: what is turned together is side by side."""
    if config.model_type != "mixtral" or not ROTARY.fullmatch(name):
        return tensor
    half = config.head_dim // 2
    order = [head + part for head in range(0, len(tensor), 2 * half) for i in range(half) for part in (i, i + half)]
    return tensor[order]


def test_every_number_of_the_folder_is_in_the_file(make_folder, tmp_path, family):
    folder, config = make_folder(family)
    written = export_gguf(folder, tmp_path / "model.gguf")
    found = read_tensors(tmp_path / "model.gguf")
    expected = expected_tensors(folder, config)
    assert found.keys() == expected.keys()
    assert ("output.weight" in found) != config.tie_word_embeddings
    assert (written.tensors, written.empty) == (len(found), 0)
    assert written.bytes == (tmp_path / "model.gguf").stat().st_size
    for name, tensor in found.items():
        assert torch.equal(numbers(tensor), rotated(name, expected[name], config)), name
        small = expected[name].dim() == 1 or "ffn_gate_inp" in name or name.endswith("bias")
        assert tensor.tensor_type.name == ("F32" if small else "BF16"), name


def test_in_q8_0_every_number_is_near(make_folder, tmp_path, family):
    folder, config = make_folder(family, "float32")
    export_gguf(folder, tmp_path / "model.gguf", "q8_0")
    for name, tensor in read_tensors(tmp_path / "model.gguf").items():
        expected = rotated(name, expected_tensors(folder, config)[name], config)
        if tensor.tensor_type.name == "Q8_0":
            # A block's step is a 127th of its largest number, kept in float16.
            blocks = expected.unflatten(-1, (-1, 32))
            step = blocks.abs().amax(-1, keepdim=True) / 127
            error = (numbers(tensor).unflatten(-1, (-1, 32)) - blocks).abs()
            assert (error <= step * (0.5 + 127 * 2**-11) + 1e-7).all(), name
        elif tensor.tensor_type.name == "BF16":
            assert tensor.shape[0] % 32 != 0
            assert torch.equal(numbers(tensor), expected.bfloat16().float()), name
        else:
            assert torch.equal(numbers(tensor), expected), name


def test_in_f32_nothing_is_rounded(make_folder, tmp_path):
    folder, config = make_folder("afmoe", "float32")
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    expected = expected_tensors(folder, config)
    for name, tensor in read_tensors(tmp_path / "model.gguf").items():
        assert tensor.tensor_type.name == "F32"
        assert torch.equal(numbers(tensor), expected[name]), name


@pytest.mark.parametrize(("kind", "stored"), [("bf16", "MXFP4"), ("q8_0", "MXFP4"), ("f32", "F32")])
def test_weights_of_four_bits_stay_exactly_what_they_are(make_folder, tmp_path, kind, stored):
    """gpt-oss's experts as released, in runs of 32 numbers with a power of two."""
    wide = {"hidden_size": 64, "moe_intermediate_size": 32, "intermediate_size": 32}
    folder, _ = make_folder("gpt_oss", "float32", **wide)
    tensors = load_file(folder / "model.safetensors")
    random = torch.Generator().manual_seed(1)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inner, outer = tensors.pop(name).shape
        runs = experts, outer, inner // 32
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*runs, 16), generator=random, dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(120, 130, runs, generator=random, dtype=torch.uint8)
    save_file(tensors, folder / "model.safetensors")
    export_gguf(folder, tmp_path / "model.gguf", kind)
    state = load_weights(folder).state_dict()
    found = read_tensors(tmp_path / "model.gguf")
    gate_up, down = (state[f"layers.2.mlp.experts.{name}_proj"] for name in ("gate_up", "down"))
    for name, expected in {"gate": gate_up[:, 0], "up": gate_up[:, 1], "down": down}.items():
        tensor = found[f"blk.2.ffn_{name}_exps.weight"]
        assert tensor.tensor_type.name == stored
        assert torch.equal(numbers(tensor), expected), name


def test_layers_that_llama_cpp_would_turn_keep_their_places(make_folder, read_settings, tmp_path):
    """Every second layer here is blind to positions, in llama.cpp every fourth: between them stand layers of zeros."""
    folder, config = make_folder("afmoe", global_attn_every_n_layers=2, num_dense_layers=2)
    written = export_gguf(folder, tmp_path / "model.gguf")
    assert (written.layers, written.empty) == (8, 4)
    settings = read_settings(tmp_path / "model.gguf")
    assert settings["afmoe.block_count"] == 8
    assert settings["afmoe.leading_dense_block_count"] == 4
    assert settings["afmoe.attention.sliding_window_pattern"] == [True, True, True, False] * 2
    found, expected = read_tensors(tmp_path / "model.gguf"), expected_tensors(folder, config)
    assert written.tensors == len(found)
    for layer, place in enumerate((0, 3, 4, 7)):
        for name in [name for name in expected if name.startswith(f"blk.{layer}.")]:
            theirs = name.replace(f"blk.{layer}.", f"blk.{place}.")
            assert torch.equal(numbers(found[theirs]), expected[name]), theirs
    for name, tensor in found.items():
        assert bool(numbers(tensor).any()) != name.startswith(("blk.1.", "blk.2.", "blk.5.", "blk.6.")), name
    assert "blk.2.ffn_gate.weight" in found
    assert "blk.5.ffn_gate_exps.weight" in found


def test_progress_ends_with_all_bytes(make_folder, tmp_path):
    folder, _ = make_folder("afmoe")
    seen = []
    export_gguf(folder, tmp_path / "model.gguf", report=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    whole = sum(tensor.n_bytes for tensor in read_tensors(tmp_path / "model.gguf").values())
    assert seen[-1] == (whole, whole)
