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
from troth.model.families.weights import load_weights, save_weights
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
    "gpt_oss": OTHERS | {
        "model_type": "gpt_oss", "qk_norm": "none", "attention_sinks": True, "biases": True, "swiglu_limit": 7.0,
        "sliding_window": 8, "global_attn_every_n_layers": 2,
    },
    "grok-1": GROK | {
        "model_type": "grok-1", "num_shared_experts": 0, "intermediate_size": 16, "attention_softcap": 30.0,
        "logit_scale": 0.6, "tie_word_embeddings": True,
    },
    "deepseek_v3": OTHERS | {
        "model_type": "deepseek_v3", "qk_norm": "none", "rms_norm_eps": 1e-6, "router_score": "sigmoid",
        "latent": {
            "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 32, "qk_rope_head_dim": 8, "v_head_dim": 12
        },
        "head_dim": 40, "num_dense_layers": 1, "intermediate_size": 48, "num_shared_experts": 2, "route_scale": 2.5,
        "num_expert_groups": 3, "topk_groups": 1,
    },
}  # fmt: skip
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
        small = expected[name].dim() == 1 or "ffn_gate_inp" in name or name.endswith("bias")
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


def test_settings_of_gpt_oss(make_folder, tmp_path):
    folder, _ = make_folder(**SHAPES["gpt_oss"])
    export_gguf(folder, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    expected = {
        "general.architecture": "gpt-oss", "gpt-oss.expert_feed_forward_length": 16, "gpt-oss.expert_count": 6,
        "gpt-oss.attention.sliding_window": 8, "gpt-oss.attention.key_length": 8, "gpt-oss.rope.dimension_count": 8,
    }  # fmt: skip
    assert {key: field(reader, key) for key in expected} == expected


def test_settings_of_deepseek_v3(make_folder, tmp_path):
    """All heads have one key there, of 16 numbers of the latent, which are its value too, and 8 that are turned."""
    yarn = {"factor": 4.0, "original_max_position_embeddings": 32, "mscale": 1.0, "mscale_all_dim": 1.0}
    folder, _ = make_folder(yarn=yarn, **SHAPES["deepseek_v3"])
    export_gguf(folder, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
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
    assert {key: field(reader, key) for key in expected} == expected
    # As llama.cpp's own files of DeepSeek-V3 have it: a tenth of `mscale_all_dim`.
    assert field(reader, "deepseek2.rope.scaling.yarn_log_multiplier") == pytest.approx(0.1)


def test_settings_of_grok_1(make_folder, tmp_path):
    folder, _ = make_folder(**SHAPES["grok-1"])
    export_gguf(folder, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    expected = {
        "general.architecture": "grok", "grok.expert_feed_forward_length": 16,
        "grok.embedding_scale": pytest.approx(32**0.5), "grok.attention.output_scale": pytest.approx(8**-0.5),
        "grok.logit_scale": pytest.approx(0.6), "grok.attn_logit_softcapping": 30.0,
    }  # fmt: skip
    assert {key: field(reader, key) for key in expected} == expected


def test_weights_of_four_bits_are_widened(make_folder, tmp_path):
    """gpt-oss's experts as released, in runs of 32 numbers with a power of two."""
    wide = {"hidden_size": 64, "moe_intermediate_size": 32, "intermediate_size": 32}
    folder, _ = make_folder(dtype="float32", **(SHAPES["gpt_oss"] | wide))
    tensors = load_file(folder / "model.safetensors")
    random = torch.Generator().manual_seed(1)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inner, outer = tensors.pop(name).shape
        runs = experts, outer, inner // 32
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*runs, 16), generator=random, dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(120, 130, runs, generator=random, dtype=torch.uint8)
    save_file(tensors, folder / "model.safetensors")
    export_gguf(folder, tmp_path / "model.gguf")
    state = load_weights(folder).state_dict()
    found = read_tensors(tmp_path / "model.gguf")
    gate_up, down = (state[f"layers.2.mlp.experts.{name}_proj"] for name in ("gate_up", "down"))
    for name, expected in {"gate": gate_up[:, 0], "up": gate_up[:, 1], "down": down}.items():
        assert torch.equal(numbers(found[f"blk.2.ffn_{name}_exps.weight"]), expected), name


@pytest.mark.parametrize("truncate", [True, False])
def test_yarn_whose_borders_llama_cpp_will_round_is_told(make_folder, tmp_path, truncate):
    yarn = {"factor": 2.0, "original_max_position_embeddings": 64, "truncate": truncate}
    folder, _ = make_folder(**(SHAPES["gpt_oss"] | {"yarn": yarn}))
    assert export_gguf(folder, tmp_path / "model.gguf").rounded is not truncate


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
    export_gguf(tmp_path, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    tokens, types = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    for text, i in words.special.items():
        assert (tokens[i], types[i]) == (text, 2 if text == "<unk>" else 4 if text in words.visible else 3)
    assert (tokens[-1], types[-1]) == (f"<unused {words.vocab_size + 2}>", 5)
    assert field(reader, "tokenizer.ggml.model") == ("llama" if family == "mixtral" else "gpt2")
    assert field(reader, "tokenizer.ggml.add_bos_token") == (family in ("mixtral", "deepseek_v3"))
    if family == "mixtral":
        assert types[tokens.index("<0x0A>")] == 6
        assert field(reader, "tokenizer.ggml.bos_token_id") == words.special["<s>"]
        scores = dict(zip(tokens, field(reader, "tokenizer.ggml.scores"), strict=True))
        merges = ["".join(parts) for parts in json.loads(words.files["tokenizer.json"])["model"]["merges"]]
        assert scores[merges[0]] == 0 > scores[merges[-1]]
    else:
        names = {"olmoe": "gpt-2", "qwen3_moe": "qwen2", "gpt_oss": "gpt-4o", "deepseek_v3": "deepseek-v3"}
        assert field(reader, "tokenizer.ggml.pre") == names[family]
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
        (SHAPES["gpt_oss"] | {"swiglu_limit": 5.0}, "swiglu_limit=5.0 (not 7.0), which llama.cpp's architecture gpt-o"),
        (SHAPES["gpt_oss"] | {"swiglu_alpha": 1.5}, "swiglu_alpha=1.5 (not 1.702)"),
        (SHAPES["gpt_oss"] | {"tie_word_embeddings": True}, "tie_word_embeddings=True"),
        (
            SHAPES["deepseek_v3"] | {"rms_norm_eps": 1e-5},
            "rms_norm_eps=1e-05 (not 1e-06), which llama.cpp's architecture deepseek2 cannot run",
        ),
        (SHAPES["grok-1"] | {"attention_softcap": None}, "max_attn_value=None, which llama.cpp's architecture grok"),
        (SHAPES["grok-1"] | {"head_dim": 16}, "head_dim=16 (not hidden_size / num_attention_heads)"),
        (SHAPES["deepseek_v3"] | {"num_shared_experts": 0}, "n_shared_experts=0"),
        (SHAPES["deepseek_v3"] | {"num_hidden_layers": 27}, "q_lora_rank=24 with num_hidden_layers=27"),
        (
            SHAPES["deepseek_v3"]
            | {"yarn": {"factor": 1.0, "original_max_position_embeddings": 64, "attention_factor": 1.2}},
            "rope_parameters.attention_factor=1.2 with a factor of 1",
        ),
    ],
)
def test_what_llama_cpp_cannot_run_is_refused(make_folder, tmp_path, changes, told):
    folder, _ = make_folder(**changes)
    with pytest.raises(ValueError, match=re.escape(told)):
        export_gguf(folder, tmp_path / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_family_without_an_architecture_is_named(make_folder, tmp_path):
    beside = {"num_shared_experts": 1, "feed_forward_scale": 1 / 2**0.5}
    folder, _ = make_folder(**(SHAPES["grok-1"] | beside | {"model_type": "grok-2"}))
    told = "model_type='grok-2': known for GGUF are afmoe, deepseek_v3, gpt_oss, grok-1, mixtral, olmoe, qwen3_moe"
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
