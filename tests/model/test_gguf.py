"""GGUF files, read back: every number and setting of the folder is in them, under llama.cpp's names."""

import json
import re

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from safetensors.torch import load_file, save_file

from troth.model.families.configs import to_hf_config
from troth.model.families.family import PRE_NORM
from troth.model.families.grok_1 import GROK
from troth.model.families.weights import save_weights
from troth.model.gguf.architectures import ARCHITECTURES
from troth.model.gguf.export import export_gguf
from troth.model.tokenizer import CHAT_TEMPLATE, Tokenizer

OTHERS = {"num_dense_layers": 0, "intermediate_size": 16, "sliding_window": None} | PRE_NORM
SHAPES = {
    "afmoe": {"route_scale": 2.5},
    "afmoe, tied": {"tie_word_embeddings": True, "num_dense_layers": 0, "num_experts": 3},
    "mixtral": {"model_type": "mixtral", "qk_norm": "none", "global_attn_every_n_layers": 5, **OTHERS},
    "olmoe": {"model_type": "olmoe", "qk_norm": "width", "norm_topk_prob": False, "num_key_value_heads": 4, **OTHERS},
    "qwen3_moe": {"model_type": "qwen3_moe", "head_dim": 32, **OTHERS},
}
ROTARY = re.compile(r"blk\.\d+\.attn_[qk]\.weight")


@pytest.fixture
def make_folder(shape, random_network, tokenizer, tmp_path):
    """`make_folder(dtype, **changes)` is a folder with random weights of the small shape, changed."""

    def make(dtype="bfloat16", **changes):
        folder = tmp_path / "model"
        folder.mkdir()
        config = shape(**({"vocab_size": tokenizer.vocab_size + 3} | changes))
        save_weights(random_network(config), to_hf_config(config, dtype, tokenizer.end_of_text), folder)
        tokenizer.save(folder)
        return folder, config

    return make


def expected_tensors(folder, config):
    """The folder's tensors in float32, experts stacked, under the names that the gguf package knows for them."""
    tensors = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    experts = {}
    for name in [name for name in tensors if re.search(r"experts\.\d", name)]:
        experts.setdefault(re.sub(r"experts\.\d+", "experts", name), []).append(tensors.pop(name))
    architecture = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == llama_name(config))
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    stacked = {name: torch.stack(parts) for name, parts in experts.items()}
    found = {}
    for name, tensor in (tensors | stacked).items():
        name = re.sub(r"expert_bias$", "expert_bias.bias", name)
        name = re.sub(r"^model\.(.*)block_sparse_moe\.experts", r"\1feed_forward.experts", name)
        theirs = names.get_name(name, (".weight", ".bias"))
        assert theirs is not None, name
        found[theirs] = tensor
    return found


def llama_name(config):
    return ARCHITECTURES[config.model_type].name


def read_tensors(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def numbers(tensor):
    """A tensor of a file in float32."""
    shape = tuple(int(size) for size in reversed(tensor.shape))
    return torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type))).reshape(shape)


def field(reader, key):
    return reader.fields[key].contents()


def rotated(name, tensor, config):
    """Rows of queries and keys as llama.cpp's `llama` wants them: what is turned together is side by side."""
    if config.model_type != "mixtral" or not ROTARY.fullmatch(name):
        return tensor
    half = config.head_dim // 2
    order = [head + part for head in range(0, len(tensor), 2 * half) for i in range(half) for part in (i, i + half)]
    return tensor[order]


@pytest.mark.parametrize("family", SHAPES)
def test_every_number_of_the_folder_is_in_the_file(make_folder, tmp_path, family):
    folder, config = make_folder(**SHAPES[family])
    written = export_gguf(folder, tmp_path / "model.gguf")
    found = read_tensors(tmp_path / "model.gguf")
    expected = expected_tensors(folder, config)
    assert found.keys() == expected.keys()
    assert ("output.weight" in found) != config.tie_word_embeddings
    assert (written.tensors, written.empty) == (len(found), 0)
    assert written.bytes == (tmp_path / "model.gguf").stat().st_size
    for name, tensor in found.items():
        assert torch.equal(numbers(tensor), rotated(name, expected[name], config)), name
        small = expected[name].dim() == 1 or "ffn_gate_inp" in name
        assert tensor.tensor_type.name == ("F32" if small else "BF16"), name


@pytest.mark.parametrize("family", SHAPES)
def test_in_q8_0_every_number_is_near(make_folder, tmp_path, family):
    folder, config = make_folder(dtype="float32", **SHAPES[family])
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
    folder, config = make_folder(dtype="float32")
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    expected = expected_tensors(folder, config)
    for name, tensor in read_tensors(tmp_path / "model.gguf").items():
        assert tensor.tensor_type.name == "F32"
        assert torch.equal(numbers(tensor), expected[name]), name


def test_settings_of_the_native_family(make_folder, tmp_path):
    yarn = {"factor": 4.0, "original_max_position_embeddings": 32, "attention_factor": 1.5}
    folder, _ = make_folder(yarn=yarn, **SHAPES["afmoe"])
    export_gguf(folder, tmp_path / "model.gguf", "q8_0")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
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
    assert {key: field(reader, key) for key in expected} == expected
    # llama.cpp multiplies by 0.1 ln 4 + 1 of its own.
    assert field(reader, "afmoe.rope.scaling.attn_factor") == pytest.approx(1.5 / (0.1 * np.log(4) + 1))


@pytest.mark.parametrize(
    ("family", "prefix", "lengths"),
    [("mixtral", "llama", (16, None)), ("olmoe", "olmoe", (16, None)), ("qwen3_moe", "qwen3moe", (16, 16))],
)
def test_settings_of_other_families(make_folder, tmp_path, family, prefix, lengths):
    folder, config = make_folder(**SHAPES[family])
    export_gguf(folder, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    assert field(reader, "general.architecture") == prefix
    assert field(reader, f"{prefix}.feed_forward_length") == lengths[0]
    assert field(reader, f"{prefix}.rope.dimension_count") == config.head_dim
    expert = reader.fields.get(f"{prefix}.expert_feed_forward_length")
    assert (expert and expert.contents()) == lengths[1]
    assert not any("scaling" in key or "sliding" in key for key in reader.fields)


def test_layers_that_llama_cpp_would_turn_keep_their_places(make_folder, tmp_path):
    """Every second layer here is blind to positions, in llama.cpp every fourth: between them stand layers of zeros."""
    folder, config = make_folder(global_attn_every_n_layers=2, num_dense_layers=2)
    written = export_gguf(folder, tmp_path / "model.gguf")
    assert (written.layers, written.empty) == (8, 4)
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    assert field(reader, "afmoe.block_count") == 8
    assert field(reader, "afmoe.leading_dense_block_count") == 4
    assert field(reader, "afmoe.attention.sliding_window_pattern") == [True, True, True, False] * 2
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


def test_the_tokenizer_is_in_the_file(make_folder, tokenizer, tmp_path):
    folder, config = make_folder()
    export_gguf(folder, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    tokens, types = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    assert len(tokens) == len(types) == len(set(tokens)) == config.vocab_size
    assert tokens[len(tokenizer.ranks) : tokenizer.vocab_size] == list(tokenizer.special)
    assert types == [1] * len(tokenizer.ranks) + [3] * len(tokenizer.special) + [5] * 3
    saved = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    assert tokens[: len(tokenizer.ranks)] == list(saved["vocab"])
    assert field(reader, "tokenizer.ggml.merges") == [" ".join(parts) for parts in saved["merges"]]
    assert field(reader, "tokenizer.chat_template") == CHAT_TEMPLATE
    assert [field(reader, f"tokenizer.ggml.{key}") for key in ("model", "pre", "add_bos_token")] == [
        "gpt2", "qwen2", False
    ]  # fmt: skip
    marks = {
        "bos": "<|endoftext|>", "eos": "<|endoftext|>", "eot": "<|end|>", "padding": "<|pad|>",
        "fim_pre": "<|fim_prefix|>", "fim_suf": "<|fim_suffix|>", "fim_mid": "<|fim_middle|>",
    }  # fmt: skip
    for name, text in marks.items():
        assert field(reader, f"tokenizer.ggml.{name}_token_id") == tokenizer.special[text], name


def test_the_tokenizers_of_families_are_in_the_file(published, shape, random_network, tmp_path):
    """Those that llama.cpp's own ways of splitting fit; SentencePiece's, Mixtral's, has scores in place of merges."""
    family, words = published[0], Tokenizer.load(published[1])
    config = shape(vocab_size=words.vocab_size + 3)
    save_weights(random_network(config), to_hf_config(config, "float32", words.end_of_text), tmp_path)
    words.save(tmp_path)
    if family in ("gpt_oss", "deepseek_v3"):
        with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'tokenizer.json'}: splits text as llama.cpp's")):
            export_gguf(tmp_path, tmp_path / "model.gguf")
        return
    export_gguf(tmp_path, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    tokens, types = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    for text, i in words.special.items():
        assert (tokens[i], types[i]) == (text, 2 if text == "<unk>" else 4 if text in words.visible else 3)
    assert (tokens[-1], types[-1]) == (f"<unused {words.vocab_size + 2}>", 5)
    kind = {"mixtral": "llama", "olmoe": "gpt2", "qwen3_moe": "gpt2"}[family]
    assert field(reader, "tokenizer.ggml.model") == kind
    assert field(reader, "tokenizer.ggml.add_bos_token") == (family == "mixtral")
    if family == "mixtral":
        assert types[tokens.index("<0x0A>")] == 6
        assert field(reader, "tokenizer.ggml.bos_token_id") == words.special["<s>"]
        scores = dict(zip(tokens, field(reader, "tokenizer.ggml.scores"), strict=True))
        merges = ["".join(parts) for parts in json.loads(words.files["tokenizer.json"])["model"]["merges"]]
        assert scores[merges[0]] == 0 > scores[merges[-1]]
    else:
        assert field(reader, "tokenizer.ggml.pre") == {"olmoe": "gpt-2", "qwen3_moe": "qwen2"}[family]
        assert types[tokens.index("e")] == 1


def test_ends_that_the_configuration_names_come_first(make_folder, tokenizer, tmp_path):
    """As in Qwen's folders, whose conversations end with another token than their texts."""
    folder, _ = make_folder()
    config = json.loads((folder / "config.json").read_text())
    user, system = tokenizer.special["<|user|>"], tokenizer.special["<|system|>"]
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": [user], "bos_token_id": system}))
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for entry in data["added_tokens"]:
        entry["content"] = entry["content"].replace("<|end|>", "<think>")
        entry["special"] = entry["content"] != "<think>"
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    export_gguf(folder, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    ids = [field(reader, f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "eot")]
    assert ids == [system, user, tokenizer.end_of_text]
    thought = field(reader, "tokenizer.ggml.tokens").index("<think>")
    assert field(reader, "tokenizer.ggml.token_type")[thought] == 4
    assert field(reader, "tokenizer.chat_template") == "{{ messages }}"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mup_enabled": False}, "mup_enabled=False, which llama.cpp's architecture afmoe cannot run"),
        (SHAPES["mixtral"] | {"sliding_window": 16}, "sliding_window=16, which llama.cpp's architecture llama"),
        (SHAPES["olmoe"] | {"norm_topk_prob": True}, "norm_topk_prob=True"),
        (SHAPES["olmoe"] | {"num_key_value_heads": 2}, "num_key_value_heads=2 (not 4)"),
        (SHAPES["olmoe"] | {"tie_word_embeddings": True}, "tie_word_embeddings=True"),
        (SHAPES["olmoe"] | {"head_dim": 16}, "head_dim=16 (not hidden_size / num_attention_heads)"),
        (SHAPES["qwen3_moe"] | {"num_dense_layers": 1}, "mlp_only_layers=[0]"),
        (SHAPES["qwen3_moe"] | {"norm_topk_prob": False}, "norm_topk_prob=False"),
        (
            {"yarn": {"factor": 2.0, "original_max_position_embeddings": 64, "beta_fast": 8.0}},
            "rope_parameters.beta_fast=8.0 (not 32.0)",
        ),
        (
            {"yarn": {"factor": 2.0, "original_max_position_embeddings": 64, "truncate": False}},
            "rope_parameters.truncate=False (not True)",
        ),
    ],
)
def test_what_llama_cpp_cannot_run_is_refused(make_folder, tmp_path, changes, told):
    folder, _ = make_folder(**changes)
    with pytest.raises(ValueError, match=re.escape(told)):
        export_gguf(folder, tmp_path / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_family_without_an_architecture_is_named(make_folder, tmp_path):
    folder, _ = make_folder(model_type="grok-1", num_shared_experts=0, intermediate_size=16, **GROK)
    told = "model_type='grok-1': known for GGUF are afmoe, mixtral, olmoe, qwen3_moe"
    with pytest.raises(ValueError, match=re.escape(told)):
        export_gguf(folder, tmp_path / "model.gguf")


def test_a_type_that_is_not_known_is_named(make_folder, tmp_path):
    folder, _ = make_folder()
    with pytest.raises(ValueError, match=re.escape("--type q4: known are bf16, q8_0, f32")):
        export_gguf(folder, tmp_path / "model.gguf", "q4")


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensors: tensors.pop(NORM), f"tensor {NORM} is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), "unexpected tensor extra"),
        (lambda tensors: tensors.update({NORM: torch.zeros(31)}), f"tensor {NORM} has shape [31], expected [32]"),
    ],
)
def test_the_file_is_whole_or_as_it_was(make_folder, tmp_path, change, told):
    folder, _ = make_folder()
    path = tmp_path / "model.gguf"
    path.write_text("an older file")
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=re.escape(told)):
        export_gguf(folder, path)
    assert path.read_text() == "an older file"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model", "model.gguf"]


def test_a_tokenizer_larger_than_the_model_is_named(make_folder, tokenizer, tmp_path):
    folder, _ = make_folder(vocab_size=tokenizer.vocab_size - 1)
    with pytest.raises(ValueError, match=re.escape(f"{folder}: the tokenizer has 400 tokens, the model only 399")):
        export_gguf(folder, tmp_path / "model.gguf")


def test_progress_ends_with_all_bytes(make_folder, tmp_path):
    folder, _ = make_folder()
    seen = []
    export_gguf(folder, tmp_path / "model.gguf", report=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    whole = sum(tensor.n_bytes for tensor in read_tensors(tmp_path / "model.gguf").values())
    assert seen[-1] == (whole, whole)
