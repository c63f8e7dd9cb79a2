"""The Responses API as the OpenAI client sees it, and where its answers are kept."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import openai
import pydantic
import pytest

ASK = "What is the weather in Paris?"
TOOL = {
    "type": "function", "name": "weather", "description": "Weather of a city.", "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Lima"]}}, "required": ["city"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def client(talking: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{talking}/v1", api_key="none", max_retries=0, timeout=60)


def respond(client: openai.OpenAI, **changes: Any) -> Any:
    return client.responses.create(**({"model": "talker", "input": ASK, "max_output_tokens": 300} | changes))


def test_an_answer_is_kept_listed_and_deleted(client: openai.OpenAI):
    answer = respond(client, instructions="Be brief.", metadata={"a": "b"})
    assert answer.status in ("completed", "incomplete")
    assert answer.output[-1].type == "message"
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert client.responses.retrieve(answer.id) == answer
    [item] = client.responses.input_items.list(answer.id).data
    assert (item.role, item.content[0].text) == ("user", ASK)
    client.responses.delete(answer.id)
    for gone in (client.responses.retrieve, client.responses.delete):
        with pytest.raises(openai.NotFoundError):
            gone(answer.id)


def test_a_conversation_goes_on_from_the_response_before(client: openai.OpenAI):
    first = respond(client)
    second = respond(client, input="And in Lima?", previous_response_id=first.id)
    third = respond(client, input="And here?", previous_response_id=second.id)
    said = [{"role": "assistant", "content": answer.output_text} for answer in (first, second)]
    asked = [{"role": "user", "content": text} for text in (ASK, "And in Lima?", "And here?")]
    whole = respond(client, input=[asked[0], said[0], asked[1], said[1], asked[2]])
    assert third.usage.input_tokens == whole.usage.input_tokens
    assert third.previous_response_id == second.id
    for lost in (respond(client, store=False).id, "resp_unknown"):
        with pytest.raises(openai.BadRequestError) as error:
            respond(client, previous_response_id=lost)
        assert error.value.code == "previous_response_not_found"


def test_calls_and_their_results(client: openai.OpenAI):
    first = respond(client, tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    [call] = first.output
    assert (call.type, call.name) == ("function_call", "weather")
    assert json.loads(call.arguments)["city"] in ("Paris", "Lima")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    kept = respond(client, input=[result], previous_response_id=first.id, tools=[TOOL], max_output_tokens=1)
    sent = respond(client, input=[{"role": "user", "content": ASK}, call, result], tools=[TOOL], max_output_tokens=1)
    assert kept.usage.input_tokens == sent.usage.input_tokens > first.usage.input_tokens
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}
    assert respond(client, tools=[TOOL], tool_choice=allowed).output[0].type == "function_call"


@pytest.mark.parametrize(
    "asked", [{"reasoning": {"effort": "low"}}, {"tools": [TOOL], "tool_choice": "required"}], ids=list
)
def test_events_tell_the_whole_response(client: openai.OpenAI, asked: dict[str, Any]):
    with client.responses.stream(model="talker", input=ASK, max_output_tokens=80, **asked) as stream:
        events = list(stream)
    final = events[-1].response
    kinds = [event.type for event in events]
    assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert kinds[-1] == f"response.{final.status}"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kept = client.responses.retrieve(final.id)
    assert [item.id for item in kept.output] == [item.id for item in final.output]
    for place, item in enumerate(kept.output):
        of_item = [event for event in events if getattr(event, "output_index", None) == place]
        assert of_item[0].item.status == "in_progress" if item.type != "reasoning" else True
        assert of_item[-1].type == "response.output_item.done"
        told = "".join(event.delta for event in of_item if event.type.endswith(".delta"))
        assert told == (item.arguments if item.type == "function_call" else item.content[0].text)
    if "reasoning" in asked:
        assert [item.type for item in final.output] == ["reasoning", "message"]
        assert final.usage.output_tokens_details.reasoning_tokens > 0


def test_structured_output_is_parsed(client: openai.OpenAI):
    class Verdict(pydantic.BaseModel):
        model_config = {"extra": "forbid"}
        sure: bool

    answer = client.responses.parse(model="talker", input=ASK, text_format=Verdict)
    assert isinstance(answer.output_parsed, Verdict)


def test_logprobs(client: openai.OpenAI):
    answer = respond(client, include=["message.output_text.logprobs"], top_logprobs=2, max_output_tokens=5)
    logprobs = answer.output[0].content[0].logprobs
    assert len(logprobs) == answer.usage.output_tokens
    assert all(len(entry.top_logprobs) == 2 for entry in logprobs)


def test_what_coding_agents_send_is_accepted(client: openai.OpenAI):
    """As Codex asks, over its own history."""
    shell = {"type": "function", "name": "exec", "description": "Runs it.", "strict": False, "parameters": {
        "type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"], "additionalProperties": False,
    }}  # fmt: skip
    history = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "List the files."}]},
        {"type": "reasoning", "summary": [], "content": None, "encrypted_content": None},
        {"type": "function_call", "name": "exec", "arguments": '{"cmd": "ls"}', "call_id": "call_1"},
        {"type": "function_call_output", "call_id": "call_1", "output": "README.md"},
    ]
    events = list(respond(
        client, input=history, instructions="You are a coding agent.", tools=[shell], tool_choice="auto",
        parallel_tool_calls=False, reasoning={"effort": "low", "summary": "auto"}, store=False, stream=True,
        include=["reasoning.encrypted_content"], prompt_cache_key="a", text={"verbosity": "low"}, max_output_tokens=8,
        extra_body={"client_metadata": {"installation": "a"}},
    ))  # fmt: skip
    assert events[-1].type in ("response.completed", "response.incomplete")


def test_a_prompt_is_counted_beforehand(client: openai.OpenAI):
    first = respond(client, max_output_tokens=8)
    for asked in ({"instructions": "Be brief."}, {"tools": [TOOL]}, {"previous_response_id": first.id}):
        counted = client.responses.input_tokens.count(model="talker", input=ASK, **asked)
        assert counted.object == "response.input_tokens"
        assert counted.input_tokens == respond(client, max_output_tokens=4, **asked).usage.input_tokens


def test_the_oldest_is_forgotten_where_all_does_not_fit(client: openai.OpenAI):
    """With `truncation`: instructions stay, results of calls go with their calls, and what is left is as if it alone
    had been asked."""
    call = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Lima"}'}
    result = {"type": "function_call_output", "call_id": "c1", "output": "Fog. " * 300}
    turns: list[Any] = [{"role": "user", "content": f"{ASK} {i} " + "And why? " * 40} for i in range(16)]
    asked = {"instructions": "Be brief.", "tools": [TOOL], "max_output_tokens": 20}
    answer = respond(client, input=[*turns[:8], call, result, *turns[8:]], truncation="auto", **asked)
    assert (answer.truncation, respond(client).truncation) == ("auto", "disabled")
    counts = [respond(client, input=turns[i:], **asked).usage.input_tokens for i in range(8, 16)]
    assert answer.usage.input_tokens == next(count for count in counts if count <= 4096 - 20)
    with pytest.raises(openai.BadRequestError, match="prompt is too long"):
        respond(client, input=[*turns, *turns], truncation="disabled", **asked)
    with pytest.raises(openai.BadRequestError, match="prompt is too long"):
        respond(client, input=[*turns, {"role": "user", "content": "long " * 5000}], truncation="auto", **asked)
    # The work of one question, longer than all that fits, loses its beginning.
    answer = respond(client, input=[turns[0], *[call, result] * 6], truncation="auto", **asked)
    assert 1000 < answer.usage.input_tokens < 4096 - 20


def test_what_is_kept_is_no_stream(client: openai.OpenAI):
    answer = respond(client)
    with pytest.raises(openai.BadRequestError, match="events are sent once"):
        client.responses.retrieve(answer.id, stream=True)


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "wizard"}}}}, "text", "wizard"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input", "'function_call'"),
        ({"background": True}, "background", "False"),
        ({"tools": [{"type": "web_search"}]}, "tools", "'function'"),
        ({"input": []}, "input", "at least 1"),
        ({"conversation": "c"}, "conversation", "Unrecognized"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_named(talking: str, change: dict[str, Any], param: str, says: str):
    answer = httpx.post(f"{talking}/v1/responses", json={"model": "talker", "input": ASK} | change)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert says in answer.json()["error"]["message"]


def test_answers_outlive_the_server(
    run_server: Callable[..., AbstractContextManager[str]], talker: Path, tmp_path: Path
):
    store = tmp_path / "responses.sqlite"
    with run_server(talker, response_store=store) as url:
        kept = httpx.post(f"{url}/v1/responses", json={"model": "talker", "input": ASK, "max_output_tokens": 5}).json()
    with run_server(talker, response_store=store) as url:
        assert httpx.get(f"{url}/v1/responses/{kept['id']}").json() == kept
