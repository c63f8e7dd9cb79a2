"""Tools, structured output and reasoning in chat, as the OpenAI client sees them from a random model."""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import openai
import pydantic
import pytest

from troth.model.chat_template import ChatTemplate, conversation_template
from troth.model.tokenizer import Tokenizer

ASK = [{"role": "user", "content": "What is the weather in Paris?"}]
PLACE = {"type": "object", "properties": {"city": {"enum": ["Paris", "Lima"]}}, "required": ["city"]}


def tool(name: str, parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


TOOLS = [tool("weather", PLACE, strict=True, description="Weather of a city."), tool("now", strict=True)]


@pytest.fixture(scope="module")
def client(talking: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{talking}/v1", api_key="none", max_retries=0, timeout=60)


def chat(client: openai.OpenAI, **changes: Any) -> Any:
    return client.chat.completions.create(**({"model": "talker", "messages": ASK, "max_tokens": 400} | changes))


NOW = {"type": "function", "function": {"name": "now"}}
ONLY_NOW = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NOW]}}


@pytest.mark.parametrize("choice", ["required", NOW, ONLY_NOW], ids=str)
def test_forced_calls_are_valid(client: openai.OpenAI, choice: Any):
    seen = set()
    for seed in range(4):
        [answer] = chat(client, tools=TOOLS, tool_choice=choice, seed=seed).choices
        assert answer.finish_reason == "tool_calls"
        assert answer.message.content is None
        for call in answer.message.tool_calls:
            seen.add(call.function.name)
            arguments = json.loads(call.function.arguments)
            assert arguments == {} if call.function.name == "now" else arguments["city"] in ("Paris", "Lima")
    assert seen == ({"now"} if isinstance(choice, dict) else {"now", "weather"})


def test_stop_strings_are_for_what_is_read_and_cut_no_call(client: openai.OpenAI):
    """Nor do they meet the form that calls are written in, which nobody sees."""
    asked = {"tools": TOOLS[:1], "tool_choice": "required", "seed": 3, "parallel_tool_calls": False}
    for stop in ("\n", "name", "Par", "Lim", "}"):
        [answer] = chat(client, **asked, stop=[stop]).choices
        assert (answer.finish_reason, answer.model_extra["stop_reason"]) == ("tool_calls", None)
        [call] = answer.message.tool_calls
        assert json.loads(call.function.arguments)["city"] in ("Paris", "Lima")


def test_a_call_that_a_token_has_cut_short_is_none_to_make(client: openai.OpenAI, tokenizer: Tokenizer):
    ends = [token for token in range(tokenizer.vocab_size) if {"P", "L"} & set(tokenizer.decode([token]))]
    more = {"stop_token_ids": ends, "include_stop_str_in_output": True}
    [answer] = chat(client, tools=TOOLS[:1], tool_choice="required", seed=3, extra_body=more).choices
    assert answer.finish_reason == "stop"
    assert answer.message.tool_calls[0].function.arguments.startswith('{"city": "')


def test_parallel_calls_only_where_they_may_be(client: openai.OpenAI, tokenizer: Tokenizer):
    [line_break] = tokenizer.encode("\n")
    counts = {}
    for parallel in (True, False):
        answer = chat(
            client, tools=TOOLS, tool_choice="required", parallel_tool_calls=parallel, n=4, seed=1, max_tokens=300,
            logit_bias={line_break: 4},
        )  # fmt: skip
        counts[parallel] = {len(choice.message.tool_calls) for choice in answer.choices}
    assert max(counts[True]) > 1
    assert counts[False] == {1}


def test_streamed_calls_are_the_whole_ones(client: openai.OpenAI):
    asked = {"tools": TOOLS, "tool_choice": "required", "seed": 5}
    whole = chat(client, **asked).choices[0].message.tool_calls
    calls: list[dict[str, Any]] = []
    for chunk in chat(client, **asked, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or ():
            if delta.id is not None:
                assert delta.index == len(calls)
                calls.append({"name": delta.function.name, "arguments": "", "type": delta.type})
            calls[delta.index]["arguments"] += delta.function.arguments
        finish = chunk.choices[0].finish_reason
    assert finish == "tool_calls"
    assert calls == [{**call.function.model_dump(), "type": "function"} for call in whole]


def test_results_of_calls_go_back_into_the_prompt(client: openai.OpenAI):
    called = chat(client, tools=TOOLS, tool_choice="required", seed=5).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in called.tool_calls]
    more = chat(client, messages=[*ASK, called.model_dump(exclude_none=True), *results], tools=TOOLS, max_tokens=1)
    alone = chat(client, tools=TOOLS, max_tokens=1)
    assert more.usage.prompt_tokens > alone.usage.prompt_tokens + 30


def test_without_a_choice_the_model_may_speak(client: openai.OpenAI):
    answer = chat(client, tools=TOOLS, n=4, seed=2)
    assert {choice.finish_reason for choice in answer.choices} <= {"stop", "length", "tool_calls"}
    assert any(choice.message.content for choice in answer.choices)
    none = chat(client, tools=TOOLS, tool_choice="none", seed=2)
    assert none.choices[0].message.tool_calls is None
    assert none.usage.prompt_tokens < answer.usage.prompt_tokens, "tools that may not be called are not shown"


def test_structured_output_is_parsed(client: openai.OpenAI):
    class Step(pydantic.BaseModel):
        model_config = {"extra": "forbid"}
        sure: bool
        kind: str = pydantic.Field(max_length=5)

    class Plan(pydantic.BaseModel):
        model_config = {"extra": "forbid"}
        steps: list[Step] = pydantic.Field(min_length=1, max_length=2)

    answer = client.chat.completions.parse(model="talker", messages=ASK, response_format=Plan, seed=3)
    assert isinstance(answer.choices[0].message.parsed, Plan)
    assert answer.choices[0].finish_reason == "stop"
    with client.chat.completions.stream(model="talker", messages=ASK, response_format=Plan, seed=3) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.parsed == answer.choices[0].message.parsed


def test_json_mode_begins_an_object(client: openai.OpenAI):
    answer = chat(client, response_format={"type": "json_object"}, n=4, seed=1, max_tokens=150)
    for choice in answer.choices:
        assert choice.message.content.startswith("{")
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)


def test_reasoning_has_a_budget_and_is_counted(client: openai.OpenAI):
    answer = chat(client, reasoning_effort="low", seed=1, max_tokens=60, extra_body={"ignore_eos": True})
    message, usage = answer.choices[0].message, answer.usage
    assert message.reasoning_content
    assert message.content
    assert "think>" not in message.reasoning_content + message.content
    assert 30 <= usage.completion_tokens_details.reasoning_tokens < 50, "half of what is allowed, and its end"
    chunks = list(
        chat(client, reasoning_effort="low", seed=1, max_tokens=60, extra_body={"ignore_eos": True}, stream=True)
    )
    deltas = [chunk.choices[0].delta for chunk in chunks]
    streamed = "".join((delta.model_extra or {}).get("reasoning_content") or "" for delta in deltas)
    assert streamed == message.reasoning_content
    assert "".join(delta.content or "" for delta in deltas) == message.content
    few = chat(client, seed=1, max_tokens=60, extra_body={"ignore_eos": True, "reasoning": {"max_tokens": 8}})
    assert 8 <= few.usage.completion_tokens_details.reasoning_tokens < 20
    none = chat(client, reasoning_effort="none", seed=1)
    assert "reasoning_content" not in none.choices[0].message.model_extra
    assert none.usage.completion_tokens_details.reasoning_tokens == 0


def test_reasoning_comes_before_structured_output(client: openai.OpenAI):
    schema = {"type": "json_schema", "json_schema": {"name": "yes", "schema": {"type": "boolean"}, "strict": True}}
    answer = chat(client, reasoning_effort="high", max_tokens=60, response_format=schema, seed=1)
    assert answer.choices[0].message.reasoning_content
    assert json.loads(answer.choices[0].message.content) in (True, False)


def test_earlier_answers_come_back_as_clients_keep_them(client: openai.OpenAI):
    """Reasoning under the names of vLLM and of others; with LiteLLM's own field."""
    called = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    gave = {"role": "tool", "tool_call_id": "1", "content": "sunny"}
    counts = [
        chat(
            client, messages=[*ASK, {"role": "assistant", "tool_calls": [called]} | more, gave], max_tokens=1
        ).usage.prompt_tokens
        for more in ({}, {"reasoning_content": "Let me see."}, {"reasoning": "Let me see."},
                     {"provider_specific_fields": {"refusal": None}, "audio": None, "reasoning": None})
    ]  # fmt: skip
    assert counts[0] == counts[3] < counts[1] == counts[2]


def test_a_refusal_of_an_earlier_answer_is_what_the_assistant_said(client: openai.OpenAI):
    """As a part of its content, as its `refusal`, and as an item of the Responses API."""
    part = {"type": "refusal", "refusal": "I cannot."}
    counts = {
        chat(
            client, messages=[*ASK, {"role": "assistant", **said}, *ASK], max_tokens=1
        ).usage.prompt_tokens
        for said in ({"content": "I cannot."}, {"content": [part]}, {"content": None, "refusal": "I cannot."})
    }  # fmt: skip
    items = [*ASK, {"type": "message", "role": "assistant", "content": [part]}, *ASK]
    answer = client.responses.create(model="talker", input=items, max_output_tokens=1)
    assert counts == {answer.usage.input_tokens}


def test_cached_tokens_are_told(client: openai.OpenAI):
    messages = [{"role": "user", "content": "Practice makes perfect, haste makes waste. " * 4}]
    chat(client, messages=messages, max_tokens=1)
    again = chat(client, messages=messages, max_tokens=1).usage
    assert again.prompt_tokens - 20 < again.prompt_tokens_details.cached_tokens < again.prompt_tokens


@pytest.mark.parametrize("arguments", ["", "{", "[" * 1500], ids=["none", "cut short", "nested"])
def test_earlier_calls_are_shown_as_they_were(talking: str, arguments: str):
    """Whatever a model has written."""
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    turns = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "a", "content": "Rain."}]
    body = {"model": "talker", "messages": ASK + turns, "max_tokens": 1}
    assert httpx.post(f"{talking}/v1/chat/completions", json=body).status_code == 200


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "wizard"}}}},
         "response_format", 'response_format.json_schema.schema: Unsupported type "wizard"'),
        ({"tools": [tool("a"), tool("f", {"properties": {"x": {"$ref": "#/nowhere"}}})]},
         "tools", "tools[1].function.parameters: "),
        ({"tools": [tool("f", {"type": "string"})]}, "tools", "'object', not 'string'"),
        ({"tools": [tool("a b")]}, "tools", "tools.0.function.name"),
        ({"tools": [tool("f"), tool("f")]}, "tools", "two functions are called 'f'"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "later"}}},
         "tool_choice", "no tool is called 'later'"),
        ({"tool_choice": "required"}, "tool_choice", "no tools"),
        ({"messages": [*ASK, {"role": "tool", "content": "x"}]}, "messages", "needs a tool_call_id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_is_named(talking: str, change: dict[str, Any], param: str, says: str):
    answer = httpx.post(f"{talking}/v1/chat/completions", json={"model": "talker", "messages": ASK} | change)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert says in error["message"]


def test_an_answer_goes_on_from_a_message(talking: str, tokenizer: Tokenizer):
    """As in vLLM: the prompt ends with what the message says so far, and greedily one answer goes on as the other."""
    asked, begun = {"role": "user", "content": "A bird"}, "In the hand"

    def ask(*messages: dict[str, str], **more: Any) -> httpx.Response:
        body = {"model": "talker", "messages": messages, "max_tokens": 6, "temperature": 0} | more
        return httpx.post(f"{talking}/v1/chat/completions", json=body)

    def said(answer: httpx.Response) -> tuple[int, str]:
        return answer.json()["usage"]["prompt_tokens"], answer.json()["choices"][0]["message"]["content"]

    on = {"add_generation_prompt": False, "continue_final_message": True}
    template = ChatTemplate(conversation_template(), tokenizer)
    prompt = template.encode([asked, {"role": "assistant", "content": begun}], goes_on=True)
    whole = httpx.post(
        f"{talking}/v1/completions",
        json={"model": "talker", "prompt": prompt, "max_tokens": 6, "temperature": 0},
    ).json()["choices"][0]["text"]
    assert said(ask(asked, {"role": "assistant", "content": begun}, **on)) == (len(prompt), whole)
    for messages, more, problem in (
        ([asked], on, "needs an assistant message with content"),
        ([asked, {"role": "assistant", "content": begun}], on | {"add_generation_prompt": True}, "exactly one of"),
        ([asked], {"add_generation_prompt": False}, "exactly one of"),
    ):
        refused = ask(*messages, **more)
        assert refused.status_code == 400
        assert problem in refused.json()["error"]["message"]


def test_a_chat_may_name_variables_of_the_template(
    folder: Path, run_server: Callable[..., AbstractContextManager[str]], tmp_path: Path, tokenizer: Tokenizer
):
    """As clients switch reasoning off where templates know `enable_thinking`, and efforts do, and on, by `thinking`."""
    path = tmp_path / "told"
    shutil.copytree(folder, path)
    settings = json.loads((path / "tokenizer_config.json").read_text())
    template = "{{ messages[-1].content }}{% if enable_thinking is defined and not enable_thinking %} now{% endif %}"
    template += "{% if thinking %} slowly{% endif %}"
    (path / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
    with run_server(path) as url:

        def ask(**more: Any) -> httpx.Response:
            body = {"model": "told", "messages": [{"role": "user", "content": "A bird"}], "max_tokens": 1}
            return httpx.post(f"{url}/v1/chat/completions", json=body | more)

        plain, quick, slow = (len(tokenizer.encode(f"A bird{how}")) for how in ("", " now", " slowly"))
        assert ask().json()["usage"]["prompt_tokens"] == plain
        assert ask(chat_template_kwargs={"enable_thinking": False}).json()["usage"]["prompt_tokens"] == quick
        assert ask(reasoning_effort="none").json()["usage"]["prompt_tokens"] == quick
        for wanted in ({"reasoning_effort": "high"}, {"reasoning": {"max_tokens": 9}}):
            assert ask(**wanted).json()["usage"]["prompt_tokens"] == slow
        refused = ask(chat_template_kwargs={"tools": []})
    assert refused.status_code == 400
    assert "tools is given to the template already" in refused.json()["error"]["message"]
