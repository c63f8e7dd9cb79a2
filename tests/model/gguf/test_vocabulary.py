"""Tokenizers and chat templates in GGUF files."""

import json
import re

import pytest

from troth.model.families.configs import to_hf_config
from troth.model.families.weights import save_weights
from troth.model.gguf.export import export_gguf
from troth.model.tokenizer import CHAT_TEMPLATE, Tokenizer


def test_the_tokenizer_is_in_the_file(make_folder, tokenizer, read_settings, tmp_path):
    folder, config = make_folder("afmoe")
    export_gguf(folder, tmp_path / "model.gguf")
    settings = read_settings(tmp_path / "model.gguf")
    tokens, types = settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == len(set(tokens)) == config.vocab_size
    assert tokens[len(tokenizer.ranks) : tokenizer.vocab_size] == list(tokenizer.special)
    assert types == [1] * len(tokenizer.ranks) + [3] * len(tokenizer.special) + [5] * 3
    saved = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    assert tokens[: len(tokenizer.ranks)] == list(saved["vocab"])
    assert settings["tokenizer.ggml.merges"] == [" ".join(parts) for parts in saved["merges"]]
    assert settings["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert [settings[f"tokenizer.ggml.{key}"] for key in ("model", "pre", "add_bos_token")] == [
        "gpt2", "qwen2", False
    ]  # fmt: skip
    marks = {
        "bos": "<|endoftext|>", "eos": "<|endoftext|>", "eot": "<|end|>", "padding": "<|pad|>",
        "fim_pre": "<|fim_prefix|>", "fim_suf": "<|fim_suffix|>", "fim_mid": "<|fim_middle|>",
    }  # fmt: skip
    for name, text in marks.items():
        assert settings[f"tokenizer.ggml.{name}_token_id"] == tokenizer.special[text], name


def test_the_tokenizers_of_families_are_in_the_file(published, shape, random_network, read_settings, tmp_path):
    """Those that llama.cpp's own ways of splitting fit; SentencePiece's, Mixtral's, has scores in place of merges."""
    family, words = published[0], Tokenizer.load(published[1])
    config = shape(vocab_size=words.vocab_size + 3)
    save_weights(random_network(config), to_hf_config(config, "float32", words.end_of_text), tmp_path)
    words.save(tmp_path)
    export_gguf(tmp_path, tmp_path / "model.gguf")
    settings = read_settings(tmp_path / "model.gguf")
    tokens, types = settings["tokenizer.ggml.tokens"], settings["tokenizer.ggml.token_type"]
    for text, i in words.special.items():
        assert (tokens[i], types[i]) == (text, 2 if text == "<unk>" else 4 if text in words.visible else 3)
    assert (tokens[-1], types[-1]) == (f"<unused {words.vocab_size + 2}>", 5)
    assert settings["tokenizer.ggml.model"] == ("llama" if family == "mixtral" else "gpt2")
    assert settings["tokenizer.ggml.add_bos_token"] == (family in ("mixtral", "deepseek_v3"))
    if family == "mixtral":
        assert types[tokens.index("<0x0A>")] == 6
        assert settings["tokenizer.ggml.bos_token_id"] == words.special["<s>"]
        scores = dict(zip(tokens, settings["tokenizer.ggml.scores"], strict=True))
        merges = ["".join(parts) for parts in json.loads(words.files["tokenizer.json"])["model"]["merges"]]
        assert scores[merges[0]] == 0 > scores[merges[-1]]
    else:
        names = {"olmoe": "gpt-2", "qwen3_moe": "qwen2", "gpt_oss": "gpt-4o", "deepseek_v3": "deepseek-v3"}
        assert settings["tokenizer.ggml.pre"] == names.get(family, family)
        assert types[tokens.index("e")] == 1


def test_ends_that_the_configuration_names_come_first(make_folder, tokenizer, read_settings, tmp_path):
    """As in Qwen's folders, whose conversations end with another token than their texts."""
    folder, _ = make_folder("afmoe")
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
    settings = read_settings(tmp_path / "model.gguf")
    ids = [settings[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "eot")]
    assert ids == [system, user, tokenizer.end_of_text]
    thought = settings["tokenizer.ggml.tokens"].index("<think>")
    assert settings["tokenizer.ggml.token_type"][thought] == 4
    assert settings["tokenizer.chat_template"] == "{{ messages }}"


def test_a_tokenizer_larger_than_the_model_is_named(make_folder, tokenizer, tmp_path):
    folder, _ = make_folder("afmoe", vocab_size=tokenizer.vocab_size - 1)
    with pytest.raises(ValueError, match=re.escape(f"{folder}: the tokenizer has 400 tokens, the model only 399")):
        export_gguf(folder, tmp_path / "model.gguf")
