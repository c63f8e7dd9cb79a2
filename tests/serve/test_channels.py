"""gpt-oss's messages on channels, told as reasoning, answer and calls: token by token, and by a server."""

import json
import re
import shutil

import hypothesis.strategies as st
import openai
import pytest
from hypothesis import given
from typer.testing import CliRunner

from troth.cli.main import app
from troth.model.chat_template import ChatTemplate
from troth.model.tokenizer import Tokenizer
from troth.serve.api import trained_format as form
from troth.serve.api.reading import Reading
from troth.serve.engine.channels import MARKS, OneText
from troth.serve.engine.request import Output, SampledToken

from .conftest import save_random_model

TEMPLATE = (
    "{% if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}{% endif %}"
    "<|start|>system<|message|>{{ 'Reasoning: ' + reasoning_effort }}. Channels: analysis, commentary, final.<|end|>"
    "{% if tools %}<|start|>developer<|message|># Tools{% for tool in tools %}"
    "{{ '\n// ' + tool.function.description + '\ntype ' + tool.function.name }}{% endfor %}<|end|>{% endif %}"
    "{% for m in messages %}{% if m.role == 'assistant' and m.tool_calls %}{% set call = m.tool_calls[0].function %}"
    "{% if m.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "{{ '<|start|>assistant to=' }}{{ 'functions.' + call.name }}<|channel|>commentary json<|message|>"
    "{{ call.arguments | tojson }}<|call|>"
    "{% elif m.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
"""What gpt-oss's does, and how, in few words."""
FINAL = "<|channel|>final<|message|>"
REASONED = f"<|channel|>analysis<|message|>Is it 4? Yes.<|end|><|start|>assistant{FINAL}It is 4.<|return|>"


@pytest.fixture(scope="session")
def speaks(tokenizer: Tokenizer) -> Tokenizer:
    return Tokenizer(tokenizer.ranks, [*tokenizer.special, *(mark for mark in MARKS if mark not in tokenizer.special)])


def read(tokenizer: Tokenizer, answer: str, calls: bool = True, prompt: str = "<|start|>assistant") -> Reading:
    """An answer that a model wrote behind a prompt, as the API reads it."""
    told = OneText(tokenizer, form.told("channels", calls), tokenizer.encode_special(prompt))
    reading = Reading(reasons=True, inside="final" not in prompt, calls=calls)
    ids = tokenizer.encode_special(answer)
    special = set(tokenizer.special.values())
    text = [told.take(i, b"" if i in special else tokenizer.decode_bytes([i])).decode("utf-8", "replace") for i in ids]
    for place, part in enumerate(text):
        reason = "stop" if place == len(ids) - 1 else None
        reading.take(Output("", part, (SampledToken(ids[place]),), 1, place + 1, 0, reason))
    return reading


def parts(reading: Reading) -> tuple[str, str, list[tuple[str, str]]]:
    calls = [(call.name, call.text) for call in reading.called]
    return reading.text("reasoning"), reading.text("content"), calls


CALLS = [
    "<|channel|>commentary to=functions.look <|constrain|>json<|message|>",
    "<|channel|>commentary to=functions.look<|constrain|>json<|message|>",
    " to=functions.look<|channel|>commentary json<|message|>",
    "<|channel|>analysis to=functions.look code<|message|>",
]


def test_reasoning_and_answer(speaks):
    reading = read(speaks, REASONED)
    assert parts(reading) == ("Is it 4? Yes.", "It is 4.", [])
    assert reading.finish_reason == "stop"
    assert 0 < reading.reasoning_tokens < len(reading.tokens)


@pytest.mark.parametrize("header", CALLS)
def test_calls_in_all_their_forms(speaks, header):
    thought = "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant"
    reading = read(speaks, thought + header + '{"at": "<x>"}<|call|>')
    assert parts(reading) == ("Look.", "", [("look", '{"at": "<x>"}')])
    assert reading.finish_reason == "tool_calls"


def test_what_is_said_before_a_call_and_tools_of_its_own_are_thoughts(speaks):
    before = "<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant"
    own = "<|channel|>commentary to=python code<|message|>1 + 1<|end|><|start|>assistant"
    answer = read(speaks, before + own + FINAL + "2<|return|>")
    assert parts(answer) == ("I will look.\n\n1 + 1", "2", [])
    offered_none = read(speaks, CALLS[0] + '{"at": 1}<|end|><|start|>assistant' + FINAL + "2<|return|>", calls=False)
    assert parts(offered_none) == ('{"at": 1}', "2", [])


def test_a_text_without_headers_is_an_answer(speaks):
    assert parts(read(speaks, "a to=b<|end|>")) == ("", "a to=b", [])


def test_an_answer_that_was_begun_goes_on(speaks):
    reading = read(speaks, " 4.<|return|>", prompt="<|start|>assistant" + FINAL + "It is")
    assert parts(reading) == ("", " 4.", [])


PIECES = [*MARKS, "final", "analysis", " to=functions.f", "commentary", "{", '"a"', "}", "\n", "é"]


@given(st.lists(st.sampled_from(PIECES)))
def test_whatever_comes_in_any_order_is_read(speaks, pieces):
    """Nothing fails, and what stands behind `final` is answer. Where calls may be made, a grammar holds them."""
    reading = read(speaks, "".join(pieces) + "<|end|><|start|>assistant" + FINAL + "done<|return|>", calls=False)
    assert "".join(block.text for block in reading.blocks).endswith("done")


@pytest.fixture(scope="module")
def on_channels(tmp_path_factory, speaks, config):
    path = tmp_path_factory.mktemp("models") / "channels"
    wider = config.model_copy(update={"vocab_size": speaks.vocab_size})
    return save_random_model(path, wider, speaks, chat_template=TEMPLATE)


@pytest.fixture(scope="module")
def client(run_server, on_channels):
    with run_server(on_channels, max_batch=16, max_step_tokens=256) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


ASK = [{"role": "user", "content": "What is the weather in Paris?"}]
CITY = {"city": {"enum": ["Paris", "Lima"]}}
PLACE = {"type": "object", "properties": CITY, "required": ["city"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": PLACE}} for name in ("weather", "map")]


def chat(client, **changes):
    return client.chat.completions.create(**({"model": "channels", "messages": ASK, "max_tokens": 300} | changes))


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "map"}}], ids=str)
def test_forced_calls_are_made_behind_reasoning_of_a_bounded_length(client, choice):
    reasoned = []
    for seed in range(12):
        bound = {"reasoning": {"max_tokens": 20}}
        [answer] = chat(client, tools=TOOLS, tool_choice=choice, seed=seed, extra_body=bound).choices
        assert answer.finish_reason == "tool_calls"
        assert answer.message.content is None
        reasoned.append(answer.message.model_extra.get("reasoning_content"))
        [call] = answer.message.tool_calls
        assert call.function.name in (("map",) if isinstance(choice, dict) else ("map", "weather"))
        assert json.loads(call.function.arguments)["city"] in ("Paris", "Lima")
    assert any(reasoned)


def test_an_answer_of_a_schema_comes_behind_reasoning(client):
    schema = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE, "strict": False}}
    for effort in ("low", "none"):
        reasoned = []
        for seed in range(4):
            answer = chat(client, response_format=schema, reasoning_effort=effort, seed=seed)
            message = answer.choices[0].message
            assert json.loads(message.content)["city"] in ("Paris", "Lima")
            reasoned.append(bool(message.model_extra.get("reasoning_content")))
            assert (answer.usage.completion_tokens_details.reasoning_tokens > 0) == (effort == "low")
        assert any(reasoned) == (effort == "low")


def test_a_tokenizer_without_the_marks_has_no_channels(speaks, tokenizer):
    assert form.form_of(ChatTemplate(TEMPLATE, speaks)) == "channels"
    assert form.form_of(ChatTemplate(TEMPLATE, tokenizer)) is None


@pytest.mark.parametrize(
    ("effort", "told"), [(None, "medium"), ("none", "low"), ("minimal", "low"), ("high", "high"), ("xhigh", "high")]
)
def test_the_template_is_told_of_an_effort_that_it_knows(speaks, effort, told):
    template = ChatTemplate(TEMPLATE, speaks)
    prompt = speaks.decode(template.encode(ASK, **form.switches(effort, None, template)))
    assert f"Reasoning: {told}." in prompt


def test_a_call_and_the_thought_before_it_are_told_again(client):
    [answer] = chat(client, tools=TOOLS, tool_choice="required", seed=2).choices
    [call] = answer.message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "12"}
    again = [*ASK, answer.message.model_dump(exclude_none=True), result]
    assert chat(client, messages=again, tools=TOOLS, seed=2).choices[0].finish_reason


def test_no_mark_is_shown(client):
    for seed in range(3):
        stream = chat(client, seed=seed, stream=True, tools=TOOLS)
        text = "".join(
            (part.choices[0].delta.content or "") + (part.choices[0].delta.model_extra.get("reasoning_content") or "")
            for part in stream
        )
        assert not re.search(r"<\|\w+\|>", text)


def test_in_the_terminal_reasoning_is_told_apart(on_channels, tmp_path):
    """This random network writes no headers, so what it says is all answer; a prompt that begins one has it reason."""
    for begun in ("", "<|channel|>analysis<|message|>"):
        folder = shutil.copytree(on_channels, tmp_path / "model", dirs_exist_ok=True)
        (folder / "chat_template.jinja").write_text(TEMPLATE + begun)
        command = ["chat", str(folder), "--json", "--seed", "1", "--max-tokens", "9"]
        said = CliRunner().invoke(app, command, input="Hi\n")
        answer = json.loads(said.stdout)
        assert ("reasoning_content" in answer) == bool(begun) == (not answer["content"])
        assert not re.search(r"<\|\w+\|>|analysis|</think>", said.stdout)
