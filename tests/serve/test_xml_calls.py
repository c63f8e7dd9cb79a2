"""Qwen3-Coder's calls in XML, told as JSON: piece by piece, and by a server."""

import itertools
import json

import hypothesis.strategies as st
import openai
import pytest
from hypothesis import given

from troth.model.chat_template import ChatTemplate
from troth.serve.api import trained_format as form
from troth.serve.engine.sampling_params import Grammar, Json
from troth.serve.engine.xml_calls import XmlCalls, argument

from .conftest import save_random_model

PROPERTIES = {
    "city": {"type": "string"}, "days": {"type": "integer"}, "units": {"enum": ["c", "f"]},
    "more": {"type": "object", "properties": {"wind": {"type": "boolean"}}, "additionalProperties": False},
}  # fmt: skip
SCHEMA = {"type": "object", "properties": PROPERTIES, "required": ["city", "days"], "additionalProperties": False}
TEMPLATE = (
    "{% if tools %}<|system|>{% for tool in tools %}{{ tool.function.name }} {% endfor %}<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m.role if m.role != 'tool' else 'user' }}|>{{ m.content }}"
    "{% for call in m.tool_calls or [] %}{{ '\\n<tool_call>\\n<function=' + call.function.name + '>\\n' }}"
    "{% for key, value in call.function.arguments | items %}{{ '<parameter=' + key + '>\\n' }}"
    "{{ value if value is string else value | tojson }}{{ '\\n</parameter>\\n' }}{% endfor %}"
    "{{ '</function>\\n</tool_call>' }}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""What Qwen3-Coder's does, and how, in few words."""
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def told(text: str, cuts: list[int], thinks: bool = False) -> str:
    """What a text is told as that comes in pieces."""
    tag = form.call_tag("weather", Json(name="weather", schema_text=json.dumps(SCHEMA)))
    grammar = Grammar(tags=(tag,), trigger=form.CALL, form="xml")
    calls = XmlCalls(form.told("xml", calls=True), grammar, form.reasoning(None) if thinks else None)
    data = text.encode()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [calls.take(0, data[first:last]) for first, last in itertools.pairwise(places)]
    return b"".join([*pieces, calls.close()]).decode()


CALL = (
    'I look.\n<tool_call>\n<function=weather>\n<parameter=city>\nSão "Paulo"\n<b>\n\n</parameter>\n'
    "<parameter=days>\n3\n</parameter>\n<parameter=units>\nc\n</parameter>\n"
    '<parameter=more>\n{"wind": true}\n</parameter>\n</function>\n'
    "</tool_call>"
)
ARGUMENTS = {"city": 'São "Paulo"\n<b>\n', "days": 3, "units": "c", "more": {"wind": True}}


@given(st.lists(st.integers(0, 300)))
def test_thoughts_of_calls_stay_as_they_are(cuts):
    thoughts = "I could <tool_call>\n<function=weather> or\n</think>\n"
    assert told(thoughts + CALL, cuts, thinks=True) == thoughts + told(CALL, [])


@given(st.lists(st.integers(0, 300)))
def test_a_call_is_told_as_json_wherever_it_is_cut(cuts):
    before, begins, rest = told(CALL + " Done <tool_call> é", cuts).partition(form.CALL_NAME)
    assert (before, begins) == ("I look.\n", form.CALL_NAME)
    name, _, rest = rest.partition(form.CALL_ARGUMENTS)
    arguments, _, after = rest.partition(form.CALL_END)
    assert (json.loads(name), json.loads(arguments)) == ("weather", ARGUMENTS)
    assert after == " Done <tool_call> é"


def test_a_call_without_arguments_and_one_cut_short():
    assert form.CALL_ARGUMENTS + "{}}" in told("<tool_call>\n<function=weather>\n\n</function>\n</tool_call>", [])
    assert told(CALL[:60], []).endswith(form.CALL_ARGUMENTS + "{")


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("12", {"type": "string"}, "12"), ("12", {"type": "integer"}, 12), ("12", None, 12), ("NaN", None, "NaN"),
        ("null", {"type": ["string", "null"]}, None), ("a b", {"type": ["string", "null"]}, "a b"),
        (" c ", {"enum": ["c"]}, "c"),
        ("[1]", True, [1]), ("", {"type": "string"}, ""), ("[" * 3000, None, "[" * 3000),
    ],
)  # fmt: skip
def test_the_schema_says_what_an_argument_is(text, schema, value):
    assert argument(f"\n{text}\n", schema) == value


@pytest.fixture(scope="module")
def client(run_server, tmp_path_factory, tokenizer, config):
    path = tmp_path_factory.mktemp("models") / "coder"
    save_random_model(path, config, tokenizer, chat_template=TEMPLATE)
    with run_server(path, max_batch=16, max_step_tokens=256) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def chat(client, **changes):
    ask = [{"role": "user", "content": "The weather?"}]
    return client.chat.completions.create(**({"model": "coder", "messages": ask, "tools": [TOOL]} | changes))


def test_forced_calls_are_valid_and_are_told_again(client, tokenizer):
    """This random network hardly ends a text, so that the longest of a string is bounded here."""
    short = {"city": {"enum": ["Paris", "Lima"]}, "days": {"enum": [1, 2]}, "more": PROPERTIES["more"]}
    parameters = SCHEMA | {"properties": short}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    for seed in range(6):
        [answer] = chat(client, tools=tools, tool_choice="required", parallel_tool_calls=False, seed=seed).choices
        assert (answer.finish_reason, answer.message.content) == ("tool_calls", None)
        [call] = answer.message.tool_calls
        arguments = json.loads(call.function.arguments)
        assert arguments["city"] in ("Paris", "Lima")
        assert arguments["days"] in (1, 2)
    said = answer.message.model_dump(exclude_none=True)
    template = ChatTemplate(TEMPLATE, tokenizer)
    arguments = json.loads(said["tool_calls"][0]["function"]["arguments"])
    said["tool_calls"][0]["function"]["arguments"] = arguments
    prompt = tokenizer.decode(template.encode([{"role": "user", "content": "?"}, {"content": "", **said}]))
    assert f"<function=weather>\n<parameter=city>\n{arguments['city']}\n</parameter>" in prompt


def test_a_stream_has_the_same_calls(client):
    asked = {"tool_choice": "required", "parallel_tool_calls": False, "seed": 5, "max_tokens": 60}
    whole = chat(client, **asked).choices[0].message.tool_calls or []
    pieces = [part.choices[0].delta.tool_calls for part in chat(client, **asked, stream=True) if part.choices]
    streamed = "".join(call.function.arguments or "" for calls in pieces for call in calls or [])
    assert streamed == "".join(call.function.arguments for call in whole)
