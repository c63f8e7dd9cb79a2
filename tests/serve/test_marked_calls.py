"""Calls between marks, as DeepSeek-V3, Kimi-K2 and Mistral write them, told as JSON: by piece, and by a server."""

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import hypothesis.strategies as st
import openai
import pytest
from hypothesis import given

from troth.model.chat_template import ChatTemplate
from troth.model.config import ModelConfig
from troth.model.tokenizer import Tokenizer
from troth.serve.api import trained_format as form
from troth.serve.api.reading import Reading
from troth.serve.engine.marked_calls import FORMS, MARKS, MarkedCalls
from troth.serve.engine.request import Output, SampledToken
from troth.serve.engine.sampling_params import Grammar, Json

from .conftest import save_random_model

SECTION, SECTION_END, CALL, CALL_END, SEP, *KIMI = MARKS[:10]
BEGIN = (
    "{{ tools | tojson if tools }}{% for m in messages %}"
    "{% if m.role == 'tool' %}<|user|>{{ m.tool_call_id }} gave {{ m.content }}<|end|>"
    "{% elif m.role == 'assistant' and m.tool_calls %}<|assistant|>"
)
END = (
    "<|end|>{% else %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NINE = "{% if call.id | length != 9 %}{{ raise_exception('ids have nine letters') }}{% endif %}"
TEMPLATES = {
    # Of text and calls, DeepSeek's first templates take one.
    "deepseek_v3": (
        "{% if m.content is none %}" + SECTION + "{% for call in m.tool_calls %}{{ '\\n' if not loop.first }}" + CALL
        + "{{ call.type }}" + SEP + "{{ call.function.name + '\\n```json\\n' + call.function.arguments + '\\n```' }}"
        + CALL_END + "{% endfor %}" + SECTION_END + "{% endif %}"
    ),
    "deepseek_v31": (
        "{{ m.content }}" + SECTION + "{% for call in m.tool_calls %}" + CALL + "{{ call.function.name }}" + SEP
        + "{{ '' + call.function.arguments }}" + CALL_END + "{% endfor %}" + SECTION_END
    ),
    "kimi_k2": (
        "{{ m.content }}" + KIMI[0] + "{% for call in m.tool_calls %}" + KIMI[2] + "{{ call.id }}" + KIMI[4]
        + "{{ call.function.arguments | tojson }}" + KIMI[3] + "{% endfor %}" + KIMI[1]
    ),
    "mistral_ids": (
        "{{ m.content }}{% for call in m.tool_calls %}" + NINE + "[TOOL_CALLS]{{ call.function.name }}[CALL_ID]"
        "{{ call.id }}[ARGS]{{ call.function.arguments | tojson }}{% endfor %}"
    ),
    "mistral_args": (
        "{{ m.content }}{% for call in m.tool_calls %}[TOOL_CALLS]{{ call.function.name }}[ARGS]"
        "{{ call.function.arguments | tojson }}{% endfor %}"
    ),
    "mistral": (
        "{{ m.content }}[TOOL_CALLS] [{% for call in m.tool_calls %}" + NINE + "{{ (call.function | tojson)[:-1] }}"
        """{{ ', "id": "' + call.id + '"}' }}{{ ', ' if not loop.last }}{% endfor %}]"""
    ),
}  # fmt: skip
"""Earlier calls as these models' templates write them, in few words."""
WRITTEN = {
    "deepseek_v3": (
        f"{SECTION}{CALL}function{SEP}look\n```json\nARGUMENTS\n```{CALL_END}\n"
        f"{CALL}function{SEP}now\n```json\n{{}}\n```{CALL_END}{SECTION_END}"
    ),
    "deepseek_v31": f"{SECTION}{CALL}look{SEP}ARGUMENTS{CALL_END}{CALL}now{SEP}{{}}{CALL_END}{SECTION_END}",
    "kimi_k2": (
        f"{KIMI[0]}{KIMI[2]}functions.look:0{KIMI[4]}ARGUMENTS{KIMI[3]}"
        f"{KIMI[2]}functions.now:11{KIMI[4]}{{}}{KIMI[3]}{KIMI[1]}"
    ),
    "mistral_ids": "[TOOL_CALLS]look[CALL_ID]aB3456789[ARGS]ARGUMENTS[TOOL_CALLS]now[CALL_ID]bB3456789[ARGS]{}",
    "mistral_args": "[TOOL_CALLS]look[ARGS]ARGUMENTS[TOOL_CALLS]now[ARGS]{}",
    "mistral": (
        '[TOOL_CALLS][{"name": "look", "arguments": ARGUMENTS, "id": "aB3456789"}, {"name": "now", "arguments": {}}]'
    ),
}  # fmt: skip
ARGUMENTS = json.dumps({"at": f'São "]}}[" ``` {CALL_END}[TOOL_CALLS]', "deep": {"n": [1]}}, ensure_ascii=False)


def words_of(tokenizer: Tokenizer, marks: str) -> Tokenizer:
    """The tokenizer with the marks as tokens of their own, `hidden` or `shown` ones, or without any (`spelt`)."""
    if marks == "spelt":
        return tokenizer
    return Tokenizer(tokenizer.ranks, [*tokenizer.special, *MARKS], MARKS if marks == "shown" else ())


def read(tokenizer: Tokenizer, name: str, answer: str, thinks: bool = False) -> Reading:
    """An answer that a model wrote, as the API reads it."""
    tags = tuple(form.call_tag(name, Json(name=name, schema_text="{}")) for name in ("look", "now"))
    reasoning = form.reasoning(None) if thinks else None
    grammar = Grammar(tags=tags, trigger=form.CALL, form=name)
    calls = MarkedCalls(tokenizer, form.told(name, calls=True), grammar, reasoning)
    reading = Reading(reasons=thinks, inside=thinks, calls=True)
    ids = tokenizer.encode_special(answer)
    hidden = {tokenizer.special[text] for text in tokenizer.special.keys() - tokenizer.visible}
    data = b""
    for count, token in enumerate(ids, 1):
        data += calls.take(token, b"" if token in hidden else tokenizer.decode_bytes([token]))
        text = data.decode("utf-8", "ignore") if count < len(ids) else (data + calls.close()).decode()
        data = data[len(text.encode()) :]
        reason = "stop" if count == len(ids) else None
        reading.take(Output("", text, (SampledToken(token),), 1, count, 0, reason))
    return reading


@pytest.mark.parametrize("marks", ["hidden", "shown", "spelt"])
@pytest.mark.parametrize("name", FORMS)
def test_calls_are_read_and_marks_in_arguments_are_text(tokenizer: Tokenizer, name: str, marks: str):
    """Such text is spelt, where marks are tokens: no user of an API can write one, and nor can a model in a string."""
    words = words_of(tokenizer, marks)
    written = WRITTEN[name].replace("ARGUMENTS", ARGUMENTS if marks == "spelt" else '{"at": "São"}')
    reading = read(words, name, f"Let me look: é {{\n{written}")
    assert reading.text("content") == "Let me look: é {"
    assert [(call.name, json.loads(call.text)) for call in reading.called] == [
        ("look", json.loads(ARGUMENTS) if marks == "spelt" else {"at": "São"}), ("now", {}),
    ]  # fmt: skip
    assert reading.finish_reason == "tool_calls"


@pytest.mark.parametrize("name", FORMS)
def test_thoughts_of_calls_stay_as_they_are(tokenizer: Tokenizer, name: str):
    written = WRITTEN[name].replace("ARGUMENTS", "{}")
    reading = read(tokenizer, name, f"I could write {written}, or\n</think>\n\n{written}", thinks=True)
    assert reading.text("reasoning") == f"I could write {written}, or"
    assert [call.name for call in reading.called] == ["look", "now"]
    assert reading.text("content") == ""


@pytest.mark.parametrize("marks", ["hidden", "spelt"])
def test_calls_that_are_cut_short_anywhere(tokenizer: Tokenizer, marks: str):
    for name in FORMS:
        words = words_of(tokenizer, marks)
        ids = words.encode_special("So: " + WRITTEN[name].replace("ARGUMENTS", '{"at": 1}'))
        for count in range(1, len(ids)):
            reading = read(words, name, words.decode(ids[:count]))
            assert "So: ".startswith(reading.text("content")[:4])
            assert ("look" in words.decode(ids[:count])) >= bool(reading.called)
            assert all('{"at": 1}'.startswith(call.text) or call.text in ("{", "{}") for call in reading.called)


@given(text=st.lists(st.sampled_from([*MARKS, "a", "é", "{", '"', "[", "\n", "<|tool", "[TOOL_"])).map("".join))
def test_what_only_looks_like_a_mark_is_text(tokenizer: Tokenizer, text: str):
    words = words_of(tokenizer, "hidden")
    tags = (form.call_tag("look", Json(name="look", schema_text="{}")),)
    for name in FORMS:
        calls = MarkedCalls(words, form.told(name, calls=True), Grammar(tags=tags, form=name))
        ids = words.encode(text)
        pieces = [calls.take(token, words.decode_bytes([token])) for token in ids]
        assert b"".join([*pieces, calls.close()]).decode() == text


@pytest.mark.parametrize("name", FORMS)
def test_a_template_tells_the_form_and_writes_earlier_calls(tokenizer: Tokenizer, name: str):
    """Whatever it wants of ids, of arguments, and of what is said beside calls."""
    template = ChatTemplate(BEGIN + TEMPLATES[name] + END, tokenizer)
    assert form.form_of(template) == name
    called = [
        {"id": f"call_{i}-", "type": "function", "function": {"name": f, "arguments": arguments}}
        for i, (f, arguments) in enumerate([("look", {"at": "São"}), ("now", {})])
    ]
    results = [{"role": "tool", "tool_call_id": f"call_{i}-", "content": str(i)} for i in (1, 0)]
    asked = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": called}, *results]
    prompt = tokenizer.decode(template.encode(asked))
    ids = re.findall(r"<\|user\|>(\S*) gave (\d)", prompt)
    written = prompt[prompt.index("<|assistant|>") + len("<|assistant|>") : prompt.index("<|end|><|user|>", 9)]
    expected = WRITTEN[name].replace("ARGUMENTS", '{"at": "São"}')
    if name == "kimi_k2":
        assert ids == [("functions.now:1", "1"), ("functions.look:0", "0")]
        expected = expected.replace("now:11", "now:1")
    elif name in ("mistral", "mistral_ids"):
        assert all(re.fullmatch("[a-z0-9]{9}", made) for made, _ in ids)
        expected = expected.replace("aB3456789", ids[1][0]).replace("bB3456789", ids[0][0])
        expected = expected.replace("{}}]", f'{{}}, "id": "{ids[0][0]}"}}]').replace("[TOOL_CALLS][", "[TOOL_CALLS] [")
    else:
        assert ids == [("call_1-", "1"), ("call_0-", "0")]
    assert written == expected
    read_again = read(tokenizer, name, written)
    assert [(call.name, json.loads(call.text)) for call in read_again.called] == [("look", {"at": "São"}), ("now", {})]


ASK = [{"role": "user", "content": "The weather?"}]
CITY = {"city": {"enum": ["Paris", "Lima"]}, "days": {"enum": [1, 2]}}
PLACE = {"type": "object", "properties": CITY, "required": ["city"], "additionalProperties": False}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": PLACE, "strict": True}} for name in ("look", "now")
]
HOW = {
    "deepseek_v3": "shown", "deepseek_v31": "shown", "kimi_k2": "hidden", "mistral_ids": "hidden",
    "mistral_args": "spelt", "mistral": "hidden",
}  # fmt: skip


@pytest.fixture(scope="module", params=FORMS)
def speaker(
    request: pytest.FixtureRequest, run_server: Callable[..., AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, config: ModelConfig,
):  # fmt: skip
    """A form, the tokenizer of a random model that speaks it, with thoughts, and a client of a server."""
    words = words_of(tokenizer, HOW[request.param])
    path = tmp_path_factory.mktemp("models") / "speaker"
    thinks = "{% if thinking %}<think>\n{% else %}</think>{% endif %}"
    template = BEGIN + TEMPLATES[request.param] + END.replace("<|assistant|>", "<|assistant|>" + thinks)
    wider = config.model_copy(update={"vocab_size": words.vocab_size})
    save_random_model(path, wider, words, chat_template=template)
    with run_server(path, max_batch=16, max_step_tokens=256) as url:
        yield request.param, words, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def chat(client: openai.OpenAI, **changes: Any) -> Any:
    asked = {"model": "speaker", "messages": ASK, "tools": TOOLS, "max_tokens": 300}
    return client.chat.completions.create(**(asked | changes))


def test_forced_calls_are_valid_and_go_back_into_the_prompt(speaker: Any):
    _, _, client = speaker
    named = {"type": "function", "function": {"name": "now"}}
    for choice in ("required", named):
        answers = chat(client, tool_choice=choice, parallel_tool_calls=False, n=6, seed=1).choices
        for answer in answers:
            assert (answer.finish_reason, answer.message.content) == ("tool_calls", None)
            [call] = answer.message.tool_calls
            assert call.function.name in (("now",) if choice == named else ("look", "now"))
            arguments = json.loads(call.function.arguments)
            assert arguments.pop("city") in ("Paris", "Lima")
            assert arguments in ({}, {"days": 1}, {"days": 2})
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    turns = [*ASK, answers[-1].message.model_dump(exclude_none=True), result]
    [again] = chat(client, messages=turns, tool_choice="required", parallel_tool_calls=False).choices
    assert len(again.message.tool_calls) == 1


def test_what_a_model_wrote_is_what_the_template_writes(speaker: Any, tokenizer: Tokenizer):
    """Token by token, but for ids that the model made up: the answer is found in the prefix cache again."""
    name, words, client = speaker
    more = {"return_token_ids": True}
    [answer] = chat(client, tool_choice="required", parallel_tool_calls=False, seed=3, extra_body=more).choices
    [call] = answer.message.tool_calls
    written = words.decode(answer.model_extra["token_ids"])
    template = ChatTemplate(BEGIN + TEMPLATES[name] + END, words)
    function = {"name": call.function.name, "arguments": json.loads(call.function.arguments)}
    told = {"id": call.id, "type": "function", "function": function}
    prompt = words.decode(template.encode([{"role": "assistant", "content": "", "tool_calls": [told]}]))
    found = prompt.partition("<|assistant|>")[2].partition("<|end|>")[0]
    for made in (r":\d+", r"\[CALL_ID\]\w{9}", r', "id": "\w{9}"'):
        written, found = re.sub(made, "", written), re.sub(made, "", found)
    assert written.removesuffix("<|endoftext|>").replace("[TOOL_CALLS][", "[TOOL_CALLS] [") == found


def test_parallel_calls_where_they_may_be(speaker: Any):
    _, words, client = speaker
    ends = [words.special[mark] for mark in (SECTION_END, KIMI[1]) if mark in words.special]
    ends += [words.end_of_text, words.special["<|end|>"], *words.encode("]")]
    against = dict.fromkeys(ends, -8)
    asked = {"tool_choice": "required", "n": 8, "seed": 1, "max_tokens": 120, "logit_bias": against}
    counts = [len(choice.message.tool_calls) for choice in chat(client, **asked).choices]
    assert max(counts) > 1
    one = chat(client, **asked, parallel_tool_calls=False).choices
    assert {len(choice.message.tool_calls) for choice in one} == {1}


def test_streamed_calls_are_the_whole_ones(speaker: Any):
    _, _, client = speaker
    asked = {"tool_choice": "required", "seed": 5, "max_tokens": 120}
    whole = chat(client, **asked).choices[0]
    calls: list[dict[str, str]] = []
    for chunk in chat(client, **asked, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or ():
            if delta.id is not None:
                assert delta.index == len(calls)
                calls.append({"name": delta.function.name, "arguments": ""})
            calls[delta.index]["arguments"] += delta.function.arguments
    assert calls == [call.function.model_dump() for call in whole.message.tool_calls]
    assert chunk.choices[0].finish_reason == whole.finish_reason


def test_left_to_itself_the_model_speaks_and_then_may_call(speaker: Any):
    _, words, client = speaker
    begin = next((words.special[mark] for mark in (SECTION, KIMI[0], "[TOOL_CALLS]") if mark in words.special), None)
    if begin is None:
        pytest.skip("a random model does not spell a mark by chance")
    likely = {begin: 5.0}
    asked = {"n": 16, "seed": 2, "max_tokens": 80, "parallel_tool_calls": False, "logit_bias": likely}
    answers = chat(client, **asked).choices
    called = [answer.message for answer in answers if answer.finish_reason == "tool_calls"]
    assert any(message.content for message in called)
    for message in called:
        assert json.loads(message.tool_calls[0].function.arguments)["city"] in ("Paris", "Lima")
    assert not any(mark in (answer.message.content or "") for answer in answers for mark in MARKS)


def test_thoughts_come_before_forced_calls(speaker: Any):
    _, _, client = speaker
    bound = {"reasoning": {"max_tokens": 12}}
    [answer] = chat(client, tool_choice="required", seed=4, extra_body=bound, parallel_tool_calls=False).choices
    assert answer.message.model_extra["reasoning_content"]
    assert json.loads(answer.message.tool_calls[0].function.arguments)["city"] in ("Paris", "Lima")
    assert answer.message.content is None


def test_an_answer_of_a_schema_or_a_call(speaker: Any):
    _, _, client = speaker
    schema = {"type": "json_schema", "json_schema": {"name": "yes", "schema": {"enum": ["yes", "no"]}, "strict": True}}
    for answer in chat(client, response_format=schema, n=8, seed=1, parallel_tool_calls=False).choices:
        if answer.message.tool_calls:
            assert json.loads(answer.message.tool_calls[0].function.arguments)["city"] in ("Paris", "Lima")
        else:
            assert json.loads(answer.message.content) in ("yes", "no")
