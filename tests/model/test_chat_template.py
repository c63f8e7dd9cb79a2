"""What a user writes never becomes a special token, whatever the template does around it; a conversation reads as in
transformers; and what an answer is learned behind is what it is asked by."""

import json
import re
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from troth.model.chat_template import ChatTemplate, conversation_template
from troth.model.tokenizer import CHAT_TEMPLATE, SPECIAL, Tokenizer

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
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": 5}')
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/tokenizer_config.json: not readable")):
        ChatTemplate.from_folder(tmp_path, tokenizer)
    (tmp_path / "chat_template.jinja").write_text("{% broken")
    for read in (ChatTemplate.from_folder, ChatTemplate.for_tuning):
        with pytest.raises(ValueError, match=re.escape(f"{tmp_path}: the chat template is not valid")):
            read(tmp_path, tokenizer)


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city; it's <b>now</b> & here, and no <|end|>.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "<|end|>": ["<|user|>", 3]}}}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hello, what is it?", "reasoning_content": "Greet."},
    {"role": "user", "content": "Is it dry in Köln and Bonn?"},
    {"role": "assistant", "content": "", "reasoning_content": "Two calls.\n", "tool_calls": [CALL, CALL]},
    {"role": "tool", "content": "rain <|end|>", "tool_call_id": "call1"},
    {"role": "tool", "content": "dry", "tool_call_id": "call2"},
    {"role": "assistant", "content": "Only in Bonn.", "reasoning_content": "Rain, dry."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "You are welcome.\n"},
]
UNTIL_ANSWERED = (
    "{% for m in messages %}{% if m.tool_calls %}{% set answered = namespace(is=false) %}"
    "{% for later in messages[loop.index:] %}{% if later.role == 'assistant' and not later.tool_calls %}"
    "{% set answered.is = true %}{% endif %}{% endfor %}"
    "<|assistant|>{% if m.thinking and not answered.is %}(thinks) {{ m.thinking }}{% endif %}"
    "{% for call in m.tool_calls %} (calls) {{ call.function.name }}{% endfor %}<|end|>"
    "{% elif m.role == 'assistant' %}<|assistant|>{% if m.thinking and loop.last and not add_generation_prompt %}"
    "(thinks) {{ m.thinking }}{% endif %} (says) {{ m.content }}<|end|>"
    "{% else %}<|user|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""As gpt-oss's, leaves out what was thought before a call once there is an answer."""
# As Qwen's: newlines between turns, past reasoning dropped, an empty one written where there is none.
FORGETFUL = """
{%- set ns = namespace(asked=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
    {{- '<|' + ('user' if m.role == 'tool' else m.role) + '|>\n' }}
    {%- if m.role == 'assistant' and loop.index0 > ns.asked %}
        {{- '<think>' + (m.reasoning_content or '') + '</think>\n' }}
    {%- endif %}
    {{- m.content }}
    {%- for c in m.tool_calls or [] %}{{ c.function.name }} {{ c.function.arguments | tojson(ensure_ascii=True) }}
    {%- endfor %}
    {{- '<|end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}
"""
MARKED = """
{%- for m in messages %}
    {{- '<|' + m.role + '|>' }}
    {%- if m.role == 'assistant' -%}
        {% generation %}{{ m.content + '<|end|>' }}{%- endgeneration -%}
    {%- else %}{{ m.content + '<|end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
"""
PLAIN = [{key: m[key] for key in ("role", "content")} for m in CHAT if m["role"] != "tool" and m["content"]]


@pytest.fixture(scope="module")
def auto(tokenizer, tmp_path_factory):
    from transformers import AutoTokenizer

    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(path, conversation_template())
    return AutoTokenizer.from_pretrained(path)


def harmless(value):
    """The conversation without spellings of special tokens, which transformers does not keep apart."""
    return json.loads(json.dumps(value, ensure_ascii=False).replace("<|end|>", "END").replace("<|user|>", "USER"))


@pytest.mark.parametrize("source", [conversation_template(), FORGETFUL, MARKED], ids=["ours", "forgetful", "marked"])
@pytest.mark.parametrize("length", [2, 4, 7, 9])
def test_a_conversation_reads_as_in_transformers(tokenizer, auto, source, length):
    messages, tools = harmless(CHAT[:length]), harmless(TOOLS)
    theirs = auto.apply_chat_template(messages, tools, chat_template=source, add_generation_prompt=True)
    assert ChatTemplate(source, tokenizer).encode(messages, tools) == theirs["input_ids"]


@pytest.mark.parametrize("source", [conversation_template(), FORGETFUL, MARKED], ids=["ours", "forgetful", "marked"])
@pytest.mark.parametrize("length", [3, 8, 10])
def test_an_answer_that_goes_on_reads_as_in_transformers(tokenizer, auto, source, length):
    messages = harmless(CHAT[:length])
    theirs = auto.apply_chat_template(messages, chat_template=source, continue_final_message=True)
    assert ChatTemplate(source, tokenizer).encode(messages, goes_on=True) == theirs["input_ids"]


@given(PIECES.filter(str.strip))
def test_what_an_answer_goes_on_from_never_becomes_special_tokens(template, tokenizer, content):
    ids = template.encode([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}], goes_on=True)
    assert special(ids, tokenizer) == ["<|user|>", "<|end|>", "<|assistant|>"]
    assert tokenizer.decode(ids).endswith("<|assistant|>" + content.replace("\ufdd0", "\ufffd"))


def test_a_template_that_changes_answers_has_none_go_on(tokenizer):
    shouting = ChatTemplate("{{ messages[-1].content | upper }}", tokenizer)
    with pytest.raises(ValueError, match="does not write the last message as it is"):
        shouting.encode([{"role": "assistant", "content": "It is"}], goes_on=True)


def test_our_template_as_text(tokenizer):
    told = tokenizer.decode(ChatTemplate(conversation_template(), tokenizer).encode(CHAT[:8], TOOLS))
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "<|end|>": ["<|user|>", 3]}}\n</tool_call>'
    assert told == (
        "<|endoftext|><|system|>Be brief.\n\nThese functions can be called:\n<tools>\n"
        + json.dumps(TOOLS[0], ensure_ascii=False)
        + "\n</tools>\nA call is written as its name and its arguments:\n"
        '<tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call><|end|>'
        "<|user|>Hello<|end|><|assistant|>Hello, what is it?<|end|>"
        f"<|user|>Is it dry in Köln and Bonn?<|end|><|assistant|><think>\nTwo calls.\n</think>\n\n{call}\n{call}<|end|>"
        "<|user|><tool_response>\nrain <|end|>\n</tool_response>\n<tool_response>\ndry\n</tool_response><|end|>"
        "<|assistant|><think>\nRain, dry.\n</think>\n\nOnly in Bonn.<|end|><|assistant|>"
    )


def test_reasoning_is_turned_off_in_training_as_in_serving(tokenizer):
    template = ChatTemplate(conversation_template(), tokenizer)
    asked = tokenizer.decode(template.encode(CHAT[1:2], reasoning_effort="none"))
    assert asked.endswith("<|assistant|><think>\n\n</think>\n\n")
    messages = [CHAT[1], {"role": "assistant", "content": "Hi"}]
    (example,) = template.examples(messages, [1], enable_thinking=False)
    assert tokenizer.decode(example.ids) == asked + "Hi<|end|>"
    assert sum(example.answer) == len(tokenizer.encode("Hi")) + 1


@pytest.mark.parametrize(
    ("source", "chat"),
    [(conversation_template(), CHAT), (FORGETFUL, CHAT), (UNTIL_ANSWERED, CHAT), (MARKED, PLAIN)],
    ids=["ours", "forgetful", "until answered", "marked"],
)  # fmt: skip
def test_answers_stand_behind_what_they_are_asked_by(tokenizer, source, chat):
    template = ChatTemplate(source, tokenizer)
    places = [i for i, message in enumerate(chat) if message["role"] == "assistant"]
    examples = template.examples(chat, places, TOOLS)
    prompts = []
    for ids, answer in ((found.ids, found.answer) for found in examples):
        starts = [i for i in range(1, len(ids)) if answer[i] and not answer[i - 1]]
        prompts += [ids[:start] for start in starts]
        lasts = [i for i in range(len(ids)) if answer[i] and (i + 1 == len(ids) or not answer[i + 1])]
        assert {ids[i] for i in lasts} == {tokenizer.special["<|end|>"]}
    assert prompts == [template.encode(chat[:place], TOOLS) for place in places]


def test_answers_share_an_example_until_the_template_writes_them_anew(tokenizer):
    ours = ChatTemplate(conversation_template(), tokenizer)
    places = [i for i, message in enumerate(PLAIN) if message["role"] == "assistant"]
    (example,) = ours.examples(PLAIN, places)
    assert tokenizer.decode(i for i, answer in zip(example.ids, example.answer, strict=True) if answer) == "".join(
        f"{PLAIN[place]['content']}<|end|>" for place in places
    )
    # The first answer's reasoning is gone once a question follows; the second and third are of one question.
    assert len(ours.examples(CHAT, [2, 4, 7, 9], TOOLS)) == 3
    assert len(ours.examples(CHAT, [7], TOOLS)) == 1


def test_the_mask_is_that_of_generation_blocks(tokenizer, auto):
    places = [i for i, message in enumerate(PLAIN) if message["role"] == "assistant"]
    (example,) = ChatTemplate(MARKED, tokenizer).examples(PLAIN, places)
    theirs = auto.apply_chat_template(PLAIN, chat_template=MARKED, return_assistant_tokens_mask=True, return_dict=True)
    assert example.ids == theirs["input_ids"]
    assert [int(answer) for answer in example.answer] == theirs["assistant_masks"]


def test_a_template_that_begins_answers_otherwise_than_it_asks_is_refused(tokenizer):
    thinking = (
        "{{ messages[0].content }}{% if add_generation_prompt %}<|assistant|><think>{% else %}<|assistant|>!{% endif %}"
    )
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "!"}]
    with pytest.raises(ValueError, match=r"asks for message 2 by '<think>', but writes it as '!'"):
        ChatTemplate(thinking, tokenizer).examples(messages, [1])
    silent = "{{ messages[0].content }}<|assistant|>"
    with pytest.raises(ValueError, match="writes nothing of message 2"):
        ChatTemplate(silent, tokenizer).examples(messages, [1])


@given(PIECES, PIECES, PIECES)
def test_nothing_in_tools_and_calls_becomes_a_special_token(tokenizer, first, second, third):
    function = {"name": first or "f", "description": second, "parameters": {"type": "object", third: [second]}}
    call = {"function": {"name": first or "f", "arguments": {second: third}}}
    messages = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": second, "reasoning_content": third, "tool_calls": [call]},
        {"role": "tool", "content": third, "name": first, "tool_call_id": second},
    ]
    tools = [{"type": "function", "function": function}]
    ids = ChatTemplate(conversation_template(), tokenizer).encode(messages, tools)
    turns = ["<|system|>", "<|end|>", "<|user|>", "<|end|>", "<|assistant|>", "<|end|>", "<|user|>", "<|end|>"]
    assert special(ids, tokenizer) == ["<|endoftext|>", *turns, "<|assistant|>"]


def turns(reasoning):
    """Questions and answers of the oddest contents, some answers by way of a tool."""
    text = PIECES.filter(str.strip)
    said = st.fixed_dictionaries({"role": st.just("assistant"), "content": text}, optional=reasoning)
    call = {"function": {"name": "f", "arguments": {"<|end|>": "\n"}}}
    called = st.just(
        [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "<|end|>"}]
    )
    asked = text.map(lambda content: [{"role": "user", "content": content}])
    return st.lists(
        st.tuples(asked, st.one_of(st.just([]), called), said.map(lambda m: [m])), min_size=1, max_size=4
    ).map(lambda rounds: [message for parts in rounds for part in parts for message in part])


@given(turns({"reasoning_content": PIECES}), st.sampled_from([conversation_template(), FORGETFUL]))
def test_any_answer_stands_behind_what_it_is_asked_by(tokenizer, messages, source):
    template = ChatTemplate(source, tokenizer)
    places = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    prompts, answers = [], []
    for found in template.examples(messages, places):
        for i, answer in enumerate(found.answer):
            if answer and not found.answer[i - 1]:
                prompts.append(found.ids[:i])
                answers.append([])
            if answer:
                answers[-1].append(found.ids[i])
    assert prompts == [template.encode(messages[:place]) for place in places]
    for place, answer in zip(places, answers, strict=True):
        assert special(answer, tokenizer) == ["<|end|>"]
        assert messages[place]["content"].replace("\ufdd0", "\ufffd") in tokenizer.decode(answer)


def test_which_template_a_folder_is_tuned_with(tmp_path, tokenizer):
    assert ChatTemplate.for_tuning(tmp_path, tokenizer).source == conversation_template()
    tokenizer.save(tmp_path)
    assert ChatTemplate.for_tuning(tmp_path, tokenizer).source == conversation_template()
    tokenizer.save(tmp_path, TURNS)
    assert ChatTemplate.for_tuning(tmp_path, tokenizer).source == TURNS
    other = Tokenizer(tokenizer.ranks, ["<|endoftext|>"])
    other.save(tmp_path, CHAT_TEMPLATE)
    with pytest.raises(ValueError, match=r"lacks <\|system\|> for Troth's own"):
        ChatTemplate.for_tuning(tmp_path, other)
