"""Tokenizers of the kinds that the families publish: the same ids as in transformers, and their files stay theirs."""

import json
import pickle
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from troth.model.chat_template import ChatTemplate
from troth.model.tokenizer import Tokenizer, read_chat_template
from troth.train.export import trained_ends

PIECES = [
    "the ", "def ", "\n\n", "  ", "     ", "don't", "I'LL", "1984", "x_1 = [", "Unglück", "東京", "🙂", "\t", "e\u0301",
    "▁", "<s>", "</s>", "<|endoftext|>", "<|im_end|>", "<think>", "<｜User｜>", "<|padding|>", "<unk>", "<0x41>",
    "\ufdd0",
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3))).map("".join)
CHATS = [["What is 2 + 2?", " It is 4. "], ["Hi", "Hello", "  東京?\n", "Yes"]]


@pytest.fixture(scope="module")
def both(published):
    return Tokenizer.load(published[1]), AutoTokenizer.from_pretrained(published[1])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS)
def test_ids_are_those_of_transformers(published, both, text):
    ours, theirs = both
    ids = theirs.encode(text, add_special_tokens=False)
    assert ours.encode_special(text) == ids
    plain = ours.encode(text)
    assert set(plain).isdisjoint(ours.special.values())
    if not any(spelling in text for spelling in ours.special):
        assert plain == ids
    assert ours.encode_batch([text, "other"])[0] == ours.encode_to_numpy(text).tolist() == plain
    # SentencePiece puts a space before a text, which only transformers takes away again.
    decoded = ours.decode(ids)
    assert theirs.decode(ids) == (decoded.removeprefix(" ") if published[0] == "mixtral" else decoded)
    assert b"".join(ours.decode_bytes([i]) for i in ids) == ours.decode_bytes(ids)


BEGINS = {"mixtral": "<s>", "deepseek_v3": "<｜begin▁of▁sentence｜>"}


def test_a_prompt_begins_as_in_transformers(published, both):
    """By the template of tokenizer.json; documents of those without begin with an end."""
    ours, theirs = both
    mark = BEGINS.get(published[0])
    if published[0] == "deepseek_v3":  # by `add_bos_token`, which version 5 does not read any more
        assert ours.encode_prompt("A text") == [theirs.bos_token_id, *theirs("A text")["input_ids"]]
    else:
        assert ours.encode_prompt("A text") == theirs("A text")["input_ids"]
    assert ours.begin == (None if mark is None else ours.special[mark])
    assert ours.begin_of_text == (ours.end_of_text if mark is None else ours.begin)


def test_half_a_surrogate_pair_is_no_character(both):
    ours, _ = both
    assert ours.decode(ours.encode("a\ud800b")).strip() == "a\ufffdb"
    assert ours.encode_to_numpy("a\ud800b").tolist() == ours.encode("a\ud800b")


@pytest.mark.parametrize("chat", CHATS)
def test_chats_to_learn_are_written_as_in_transformers(published, both, chat):
    """Answers go on from their prompts: no tokenizer puts a space of its own between them."""
    ours, theirs = both
    template = ChatTemplate.from_folder(published[1], ours)
    messages = [{"role": ("user", "assistant")[i % 2], "content": text.strip()} for i, text in enumerate(chat)]
    (example,) = template.examples(messages, range(1, len(chat), 2))
    expected = theirs.apply_chat_template(messages)["input_ids"]
    assert example.ids == expected[: len(example.ids)]
    assert not theirs.decode(expected[len(example.ids) :]).strip()
    told = [i for i, answer in zip(example.ids, example.answer, strict=True) if answer]
    assert chat[-1].strip() in ours.decode(told)


def test_what_a_template_would_leave_out_is_named(published, both):
    """These know text only, but for gpt-oss's, which knows reasoning; the rest would be learned as nothing."""
    template = ChatTemplate.from_folder(published[1], both[0])
    call = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Quito"}}}
    for more, told in (({"tool_calls": [call]}, "call of get_weather"), ({"reasoning_content": "Hm.\n"}, "reasoning")):
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", **more}]
        if (published[0], told) == ("gpt_oss", "reasoning"):
            (example,) = template.examples(messages, [1])
            thought = "<|channel|>analysis<|message|>Hm.\n<|end|>"
            assert thought in both[0].decode(i for i, answer in zip(example.ids, example.answer, strict=True) if answer)
            continue
        with pytest.raises(ValueError, match=f"the chat template does not write the {told} of message 2"):
            template.examples(messages, [1])


def test_files_stay_as_they_were(published, both, tmp_path):
    ours, theirs = both
    again = pickle.loads(pickle.dumps(ours))
    again.save(tmp_path, "{{ messages }}")
    assert (tmp_path / "tokenizer.json").read_bytes() == (published[1] / "tokenizer.json").read_bytes()
    assert read_chat_template(tmp_path)[0] == "{{ messages }}"
    before, after = (json.loads((path / "tokenizer_config.json").read_text()) for path in (published[1], tmp_path))
    assert after == before | {"chat_template": "{{ messages }}"}
    reread = Tokenizer.load(tmp_path)
    assert (reread.ranks, reread.special, reread.visible) == (ours.ranks, ours.special, ours.visible)
    assert len(theirs) == reread.vocab_size


ENDS = {
    "afmoe": ["<|im_end|>", "<|end_of_text|>"], "olmoe": ["<|endoftext|>"], "mixtral": ["</s>"],
    "gpt_oss": ["<|return|>", "<|endoftext|>"], "deepseek_v3": ["<｜end▁of▁sentence｜>"],
    "qwen3_moe": ["<|im_end|>", "<|endoftext|>"],
}  # fmt: skip


def test_what_is_trained_ends_where_turns_do(published, both):
    ours, _ = both
    template = read_chat_template(published[1])[0]
    assert trained_ends(ours, template, None) == [ours.special[text] for text in ENDS[published[0]]]


def test_a_template_for_tools_is_used_where_there_are_tools(tokenizer, tmp_path):
    """As Mixtral's folders have it."""
    default = "{% for m in messages %}{{ m.content }}{% endfor %}"
    for_tools = "{% macro name(t) %}{{ t.function.name }}{% endmacro %}Use {{ name(tools[0]) }}. " + default
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    templates = [{"name": "default", "template": default}, {"name": "tool_use", "template": for_tools}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": templates}))
    chat = [{"role": "user", "content": "Where?"}]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
    ours, theirs = ChatTemplate.from_folder(tmp_path, tokenizer), AutoTokenizer.from_pretrained(tmp_path)
    for known, told in ((None, "Where?"), (tools, "Use look. Where?")):
        assert theirs.apply_chat_template(chat, known, tokenize=False) == told
        assert ours.encode(chat, known) == tokenizer.encode(told)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data["model"].update(type="Unigram"), "model.type='Unigram': only 'BPE' is known"),
        (lambda data: data["added_tokens"][0].update(id=2**40), "a token has the id 1099511627776: ids go from 0 to"),
        (lambda data: data.update(decoder=None, pre_tokenizer=None), "neither byte-level nor falls back on bytes"),
        (lambda data: data.update(added_tokens=[]), "no added token ends a text"),
        (lambda data: data["model"].update(merges=[["no such", "tokens"]]), "tokenizer.json: not a BPE tokenizer"),
        (lambda data: data.pop("model"), "'model' is missing in it"),
    ],
)
def test_what_cannot_be_run_is_named(tokenizer, tmp_path, change, told):
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text())
    data["pre_tokenizer"] = data["pre_tokenizer"]["pretokenizers"][1] | {"use_regex": True}
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        Tokenizer.load(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
