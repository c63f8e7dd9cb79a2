"""Any text survives, and the shared tokenizer.json means the same to the libraries that others use."""

import json
import re
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from troth.model.tokenizer import CHAT_TEMPLATE, END_OF_TEXT, SPECIAL, Tokenizer

WORDS = st.sampled_from(
    ["the ", "def ", "\n\n", "  ", "don't", "I'LL", "1984", "x_1 = [", "Unglück", "東京", "🙂", "\t", "…", "e\u0301"]
)
TEXTS = st.one_of(st.text(), st.lists(WORDS).map("".join), st.lists(st.one_of(WORDS, st.text(max_size=3))).map("".join))
PROMPTS = st.lists(st.one_of(WORDS, st.sampled_from(SPECIAL), st.text(max_size=3))).map("".join)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(path)
    return path


@pytest.fixture(scope="module")
def library(folder):
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def auto(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@given(TEXTS)
def test_any_text_survives(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert all(0 <= i < len(tokenizer.ranks) for i in ids)
    assert tokenizer.encode_batch([text, "other", text])[::2] == [ids, ids]


@given(PROMPTS)
def test_a_special_token_in_text_is_text(tokenizer, text):
    assert set(tokenizer.encode(text)).isdisjoint(tokenizer.special.values())
    assert tokenizer.decode(tokenizer.encode(text)) == text
    special = [i for i in tokenizer.encode_special(text) if i in tokenizer.special.values()]
    spelled = re.findall("|".join(map(re.escape, SPECIAL)), text)
    assert special == [tokenizer.special[name] for name in spelled]
    assert tokenizer.decode(tokenizer.encode_special(text)) == text


@given(PROMPTS)
def test_the_tokenizers_library_gives_the_same_ids(tokenizer, library, text):
    ids = tokenizer.encode_special(text)
    assert library.encode(text, add_special_tokens=False).ids == ids
    assert library.decode(ids, skip_special_tokens=False) == text


@given(PROMPTS)
def test_transformers_gives_the_same_ids(tokenizer, auto, text):
    ids = tokenizer.encode_special(text)
    assert auto.encode(text, add_special_tokens=False) == ids
    assert auto.decode(ids) == text


def test_transformers_knows_the_special_tokens(tokenizer, auto):
    assert len(auto) == tokenizer.vocab_size
    assert (auto.eos_token, auto.eos_token_id) == (END_OF_TEXT, tokenizer.end_of_text)
    assert auto.pad_token_id == tokenizer.special["<|pad|>"]
    assert auto.decode(tokenizer.encode_special("<|user|>Hi<|end|>"), skip_special_tokens=True) == "Hi"


def test_the_chat_template_renders_in_transformers(tokenizer, auto):
    """A model of documents is asked by a blank behind the last message."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Où est Dodoma ?"}]
    told = "<|endoftext|><|fim_prefix|> Où est Dodoma ?<|fim_suffix|>.<|fim_middle|>"
    assert auto.chat_template == CHAT_TEMPLATE
    assert auto.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == told
    ids = auto.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert ids == tokenizer.encode_special(told)


def test_loaded_is_what_was_saved(tokenizer, folder, tmp_path):
    loaded = Tokenizer.load(folder)
    assert loaded.ranks == tokenizer.ranks
    assert loaded.special == tokenizer.special
    assert loaded.vocab_size == tokenizer.vocab_size == 400
    loaded.save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_leaves_no_half_of_a_tokenizer(tokenizer, tmp_path):
    """Where there is a tokenizer.json, a run takes it for its own."""
    (tmp_path / "tokenizer.json.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"tokenizer.json: could not be written: .*No space left"):
        tokenizer.save(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()


def test_merges_shorten_what_was_learned(tokenizer):
    text = "Ein Unglück kommt selten allein."
    assert len(tokenizer.encode(text)) < len(text.encode()) / 2
    assert len(tokenizer.encode("2024")) == 4


def test_half_a_surrogate_pair_is_no_letter_to_learn():
    half, mended = (Tokenizer.train(iter([f"aab {char} half"] * 3), 267) for char in "\ud83d\ufffd")
    assert half.ranks == mended.ranks


def test_too_small_a_vocabulary_or_text_is_explained():
    with pytest.raises(ValueError, match=r"model\.vocab_size=264: at least 265 are needed"):
        Tokenizer.train(iter(["text"]), 264)
    with pytest.raises(ValueError, match=r"model\.vocab_size=4096: the texts give only"):
        Tokenizer.train(iter(["too short a text"]), 4096)
    assert Tokenizer.train(iter(["text"]), 265).vocab_size == 265


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"model": {"vocab": {"▁a": 0}}, "added_tokens": []}'])
def test_a_file_that_is_no_such_tokenizer_is_named(tmp_path, text):
    path = tmp_path / "tokenizer.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_without_our_end_of_text_is_named(tokenizer, folder, tmp_path):
    data = json.loads((folder / "tokenizer.json").read_text())
    data["added_tokens"] = [entry for entry in data["added_tokens"] if entry["content"] != END_OF_TEXT]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'tokenizer.json'}")):
        Tokenizer.load(tmp_path)
