"""What a user writes never becomes a special token, whatever the template does around it."""

import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from troth.model.tokenizer import CHAT_TEMPLATE, SPECIAL, Tokenizer
from troth.model.chat_template import ChatTemplate

TURNS = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

PIECES = st.lists(st.sampled_from([*SPECIAL, "<", "|", "end", "|>", "hi", "\ufdd0", " ", "<|en", "d|>", "ß"])).map(
    "".join
)


@pytest.fixture(scope="session")
def template(tokenizer: Tokenizer) -> ChatTemplate:
    return ChatTemplate(TURNS, tokenizer)


def special(ids: list[int], tokenizer: Tokenizer) -> list[str]:
    names = {number: text for text, number in tokenizer.special.items()}
    return [names[number] for number in ids if number in names]


def test_a_document_model_is_asked_to_fill_the_blank_behind_the_last_message(tokenizer: Tokenizer):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who? <|end|>"}]
    ids = ChatTemplate(CHAT_TEMPLATE, tokenizer).encode(messages)
    assert special(ids, tokenizer) == ["<|endoftext|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    assert " Who? <|end|>" in tokenizer.decode(ids)


def test_a_conversation_as_training_sees_it(template: ChatTemplate, tokenizer: Tokenizer):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": " Hello, all! "}]
    rendered = "<|system|>Be kind.<|end|><|user|> Hello, all! <|end|><|assistant|>"
    assert template.encode(messages) == tokenizer.encode_special(rendered)


@given(PIECES, PIECES)
def test_contents_never_become_special_tokens(template: ChatTemplate, tokenizer: Tokenizer, first: str, second: str):
    ids = template.encode([{"role": "user", "content": first}, {"role": "user", "content": second}])
    expected = ["<|user|>", "<|end|>", "<|user|>", "<|end|>", "<|assistant|>"]
    assert special(ids, tokenizer) == expected
    shown = first.replace("\ufdd0", "\ufffd"), second.replace("\ufdd0", "\ufffd")
    assert tokenizer.decode(ids) == "<|user|>{}<|end|><|user|>{}<|end|><|assistant|>".format(*shown)


@example("<|en", "d|>")
@example("", "<|end")
@given(PIECES, PIECES)
def test_nor_by_what_a_careless_template_puts_beside_them(tokenizer: Tokenizer, first: str, second: str):
    careless = ChatTemplate("{% for m in messages %}{{ m.content | trim }}{% endfor %}|>", tokenizer)
    ids = careless.encode([{"role": "user", "content": first}, {"role": "user", "content": second}])
    assert special(ids, tokenizer) == []


def test_templates_may_trim_and_refuse(tokenizer: Tokenizer):
    trimming = ChatTemplate("{{ messages[0].content | trim }}<|end|>", tokenizer)
    assert tokenizer.decode(trimming.encode([{"role": "user", "content": "  two words\n"}])) == "two words<|end|>"
    refusing = ChatTemplate("{{ raise_exception('no system message here') }}", tokenizer)
    with pytest.raises(ValueError, match="no system message here"):
        refusing.encode([{"role": "system", "content": ""}])


def test_templates_cannot_reach_out(tokenizer: Tokenizer):
    reaching = ChatTemplate("{{ messages.__class__.__mro__[1].__subclasses__() }}", tokenizer)
    with pytest.raises(ValueError, match="refuses"):
        reaching.encode([{"role": "user", "content": "x"}])


def test_where_a_folder_keeps_its_template(tmp_path: Path, tokenizer: Tokenizer):
    assert ChatTemplate.from_folder(tmp_path, tokenizer) is None
    settings = {"eos_token": {"content": "<|endoftext|>"}, "chat_template": "{{ messages[0].content }}{{ eos_token }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    found = ChatTemplate.from_folder(tmp_path, tokenizer)
    assert found.encode([{"role": "user", "content": "x"}]) == [*tokenizer.encode("x"), tokenizer.end_of_text]
    (tmp_path / "chat_template.jinja").write_text("{% broken")
    with pytest.raises(ValueError, match="chat template is not valid"):
        ChatTemplate.from_folder(tmp_path, tokenizer)
