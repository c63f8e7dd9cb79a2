"""A raw checkpoint of Grok-1's layout, made up small: its weights come out by name and to the bit."""

import json
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from troth.cli.convert import command as convert
from troth.model.families.grok_1_raw import count_parameters, open_grok_1, parameters
from troth.model.families.weights import load_weights

LAYERS, EXPERTS = 11, 3
SIZES = {"V": 40, "D": 24, "F": 32, "E": EXPERTS, "Q": 256, "K": 128}
ORDER = [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]
"""In which the files of the layers follow each other: sorted as text."""
FILES = [
    ("experts.linear", "EDF", 1), ("experts.linear_1", "EFD", 8), ("experts.linear_v", "EDF", 1),
    ("attn.k_proj", "DK", 1), ("attn.o_proj", "QD", 8), ("attn.q_proj", "DQ", 1), ("attn.v_proj", "DK", 1),
    ("pre_attn_norm", "D", 0), ("post_attn_norm", "D", 0), ("pre_moe_norm", "D", 0), ("post_moe_norm", "D", 0),
    ("moe_block.gate", "DE", 0),
]  # fmt: skip
"""What the files of a layer hold, their axes, and how many blocks of rows have a scale each (0: not quantised)."""


def quantised_pickle(weight, scales):
    """As pickle's protocol 4 spells a dataclass of an int8 and a bfloat16 array; test_pickled holds real ones."""

    def text(word):
        return b"\x8c" + bytes([len(word)]) + word.encode() + b"\x94"

    def shape(sizes):
        return b"".join(b"J" + size.to_bytes(4, "little") for size in sizes) + bytes([0x84 + len(sizes)]) + b"\x94"

    def numbers(tensor):
        data = tensor.view(torch.uint8).numpy().tobytes()
        return b"\x89B" + len(data).to_bytes(4, "little") + data + b"\x94t\x94b"

    return b"".join(
        [
            b"\x80\x04", text("__main__"), text("QuantizedWeight8bit"), b"\x93\x94)\x81\x94}\x94(", text("weight"),
            text("numpy.core.multiarray"), text("_reconstruct"), b"\x93\x94", text("numpy"), text("ndarray"),
            b"\x93\x94K\x00\x85\x94C\x01b\x94\x87\x94R\x94(K\x01", shape(weight.shape), b"h\x09", text("dtype"),
            b"\x93\x94", text("i1"), b"\x89\x88\x87\x94R\x94(K\x03", text("|"),
            b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94b", numbers(weight),
            text("scales"), b"h\x08h\x0bK\x00\x85\x94h\x0d\x87\x94R\x94(K\x01", shape(scales.shape), b"h\x12",
            text("ml_dtypes"), text("bfloat16"), b"\x93\x94\x89\x88\x87\x94R\x94(K\x03", text("<"),
            b"NNNK\x02K\x02K\x50t\x94b", numbers(scales), b"ub.",
        ]
    )  # fmt: skip


@pytest.fixture(scope="module")
def grok_1(tmp_path_factory):
    """A raw checkpoint, and its weights by the names that they should have."""
    folder = tmp_path_factory.mktemp("grok-1")
    (folder / "ckpt-0").mkdir()
    (folder / "tokenizer.model").write_bytes(b"pieces")
    generator = torch.Generator().manual_seed(0)
    weights = {}
    count = 0

    def write(letters, blocks):
        nonlocal count
        shape = [SIZES[letter] for letter in letters]
        path = folder / "ckpt-0" / f"tensor{count:05d}_000"
        count += 1
        if not blocks:
            value = torch.randn(shape, generator=generator)
            path.write_bytes(pickle.dumps(value.numpy(), 4))
            return value
        weight = torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8)
        scales = torch.rand([*shape[:-2], blocks, shape[-1]], generator=generator).bfloat16()
        path.write_bytes(quantised_pickle(weight, scales))
        exact = weight.numpy() * np.repeat(scales.float().numpy(), shape[-2] // blocks, axis=-2)
        return torch.from_numpy(exact).bfloat16()

    weights["model.embed_tokens.weight"] = write("VD", 0)
    weights["model.norm.scale"] = write("D", 0)
    for layer in ORDER:
        for name, letters, blocks in FILES:
            value = write(letters, blocks)
            base = f"model.layers.{layer}"
            if letters[0] == "E":
                for expert in range(EXPERTS):
                    inner = name.replace("experts", f"moe_block.experts.{expert}")
                    weights[f"{base}.{inner}.weight"] = value[expert].T
            elif letters == "D":
                weights[f"{base}.{name}.scale"] = value
            else:
                weights[f"{base}.{name}.weight"] = value.T
    return folder, weights


@pytest.fixture
def grok_1_copy(grok_1, tmp_path):
    return shutil.copytree(grok_1[0] / "ckpt-0", tmp_path / "ckpt-0")


def same(given, expected):
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        assert given[name].dtype == value.dtype, name
        assert torch.equal(given[name], value), name


def test_grok_1_comes_out_by_name_and_to_the_bit(grok_1):
    folder, weights = grok_1
    checkpoint = open_grok_1(folder / "ckpt-0")
    same(dict(checkpoint.tensors()), weights)
    assert checkpoint.parameters == sum(weight.numel() for weight in weights.values())
    config = checkpoint.config()
    found = {key: config[key] for key in config if key.startswith("num_") or key.endswith(("_size", "head_dim"))}
    assert found == {
        "vocab_size": 40, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 11,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 128, "num_experts": 3, "num_experts_per_tok": 2,
    }  # fmt: skip


def test_grok_1_has_as_many_parameters_as_published():
    sizes = {"V": 131072, "D": 6144, "F": 32768, "E": 8, "Q": 48 * 128, "K": 8 * 128}
    assert count_parameters(64, sizes) == 315_684_820_992
    held = parameters(64)
    assert len(held) == 770
    assert held[2][1] == "model.layers.0.moe_block.experts.*.linear.weight"
    assert held[13][1] == "model.layers.0.moe_block.gate.weight"
    assert held[2 + 2 * 12][1] == "model.layers.10.moe_block.experts.*.linear.weight"
    assert held[769][1] == "model.layers.9.moe_block.gate.weight"


def test_a_missing_file_is_named(grok_1_copy):
    (grok_1_copy / "tensor00133_000").unlink()
    with pytest.raises(ValueError, match=r"tensor00133_000: is missing; 11 layers have 134 files"):
        open_grok_1(grok_1_copy)
    (grok_1_copy / "tensor00007_000").unlink()
    with pytest.raises(ValueError, match=r"tensor00007_000: is missing"):
        open_grok_1(grok_1_copy)


def test_a_file_that_does_not_fit_the_others_is_named(grok_1_copy):
    file = grok_1_copy / "tensor00009_000"
    file.write_bytes(pickle.dumps(np.zeros(25, np.float32), 4))
    told = f"{file}: transformer/decoder_layer_0/rms_norm/scale has shape [25], expected [24]"
    with pytest.raises(ValueError, match=re.escape(told)):
        open_grok_1(grok_1_copy)
    file.write_bytes(pickle.dumps(np.zeros(24, np.int8), 4))
    with pytest.raises(ValueError, match=re.escape(f"{file}: whole numbers without scales")):
        open_grok_1(grok_1_copy)
    file.write_bytes(quantised_pickle(torch.zeros(4, 6, dtype=torch.int8), torch.zeros(3, 6, dtype=torch.bfloat16)))
    told = f"{file}: int8 of shape [4, 6] with scales bfloat16 of shape [3, 6] is no quantised weight"
    with pytest.raises(ValueError, match=re.escape(told)):
        open_grok_1(grok_1_copy)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=re.escape(str(file))):
        open_grok_1(grok_1_copy)


def test_heads_of_another_width_are_given(grok_1_copy):
    with pytest.raises(ValueError, match="queries of width 256 are no whole number of heads of 96"):
        open_grok_1(grok_1_copy, head_dim=96)
    assert open_grok_1(grok_1_copy, head_dim=64).config()["num_attention_heads"] == 4


def test_a_part_of_the_release_is_not_taken_for_all_of_it(tmp_path):
    for index, (_, _, letters) in enumerate(parameters(1)):
        zeros = np.zeros([6144 if letter == "D" else 2 for letter in letters], np.float32)
        (tmp_path / f"tensor{index:05d}_000").write_bytes(pickle.dumps(zeros, 4))
    with pytest.raises(ValueError, match="has files of 1 layers; Grok-1 has 64"):
        open_grok_1(tmp_path)
    (tmp_path / "tensor00000_000").rename(tmp_path / "tensor00000_001")
    with pytest.raises(ValueError, match=r"tensor00000_001: a share of one host"):
        open_grok_1(tmp_path)


def test_grok_1_becomes_a_hugging_face_folder(grok_1, tmp_path, capsys):
    source, weights = grok_1
    out = tmp_path / "made" / "grok-1.0"
    convert(source, out, as_json=True)
    assert json.loads(capsys.readouterr().out)["parameters"] == sum(weight.numel() for weight in weights.values())
    given = load_file(out / "model.safetensors")
    exact = {name for name in weights if "norm" in name or "gate" in name}
    assert len(exact) == 1 + 5 * LAYERS
    same(given, {name: weight if name in exact else weight.bfloat16() for name, weight in weights.items()})
    assert json.loads((out / "config.json").read_text()) == open_grok_1(source / "ckpt-0").config()
    model, tokens = load_weights(out), torch.arange(4)[None]
    assert model.logits(model(tokens)).isfinite().all()
    assert (out / "tokenizer.model").read_bytes() == b"pieces"
    assert [path.name for path in out.parent.iterdir()] == ["grok-1.0"]


def test_a_folder_that_is_there_stays_as_it_is(grok_1, tmp_path):
    with pytest.raises(ValueError, match="exists already"):
        convert(grok_1[0], tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_neither_release_is_told_what_was_looked_for(tmp_path):
    told = "neither ckpt-0/tensor00000_000 (Grok-1) nor *-TP-000.safetensors (Grok-2) is in it"
    with pytest.raises(ValueError, match=re.escape(told)):
        convert(tmp_path, tmp_path / "out")
    assert not list(tmp_path.iterdir())
