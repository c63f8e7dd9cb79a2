"""What the web API refuses, and in which words."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from troth.serve.api.body_limit import BodyLimit

from .test_api import HELLO, MODEL, chat

FUNCTION = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages", "'assistant' or 'tool'"),
        ({"messages": [{"role": "user"}]}, "messages", "needs content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "'text'"),
        ({"messages": [{"role": "user", "content": "long " * 6000}]}, "messages", "at most 4095 fit"),
        ({"tools": [{"type": "function"}]}, "tools", "tools.0.function: Field required"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "was not trained to call functions"),
        ({"response_format": {"type": "yaml"}}, "response_format", "'json_schema'"),
        ({"model": None}, "model", "valid string"),
        ({"top_logprobs": 2}, None, "logprobs is true"),
        ({"stream_options": {"include_usage": True}}, None, "stream is true"),
        ({"logit_bias": {"4000": 1}}, "logit_bias", "logit_bias: token 4000 is unknown: ids go from 0 to"),
        ({"stop_token_ids": [4000]}, "stop_token_ids", "token 4000 is unknown"),
        ({"logit_bias": {"1": 101}}, "logit_bias", "logit_bias.1: Input should be less than or equal to 100"),
        ({"n": 100, "allowed_token_ids": [1] * 20_000}, None, "20,000 tokens for each of 100 texts, at most 1,000,000"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"messages": HELLO * 20_000}, "messages", "at most 16384 items"),
        ({"tools": [FUNCTION] * 2}, "tools", "two functions are called 'f'"),
        ({"tools": [FUNCTION] * 2000}, "tools", "at most 1024 items"),
        ({"magic": True}, "magic", "Unrecognized request argument supplied: magic"),
        ({"tool_choice": {"function": {"name": "f"}}}, "tool_choice", "tool_choice.type: Field required"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "response_format.json_schema: Field req"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages", "messages.0.content: Input should"),
        ({"structured_outputs": {"choice": ["\ud83d"]}}, "structured_outputs", "surrogates not allowed"),
        ({"chat_template_kwargs": {"self": 1}}, "chat_template_kwargs", "self is given to the template already"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_errors_of_chat(server: str, change: dict[str, Any], param: str | None, says: str):
    body = json.dumps({"model": MODEL, "messages": HELLO} | change)
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{server}/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert says in error["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"best_of": 3},
        {"prompt": []},
        {"prompt": ""},
        {"prompt": [-1]},
        {"prompt": ["a"], "suffix": "b"},
        {"prompt": [4000], "echo": True},
        {"prompt": [2**70], "echo": True},
    ],
    ids=str,
)
def test_errors_of_completions(server: str, change: dict[str, Any]):
    answer = httpx.post(f"{server}/v1/completions", json={"model": MODEL, "prompt": "x"} | change)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in (*change, None)


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "messages"])
def test_a_prompt_beyond_the_context_is_known_as_that(server: str, path: str):
    """By OpenAI's code, and by the words that LiteLLM looks for and Anthropic's clients do."""
    text = "long " * 6000
    turns = {"messages": [{"role": "user", "content": text}]}
    asked = {"completions": {"prompt": text}, "responses": {"input": text}, "messages": turns | {"max_tokens": 4}}
    answer = httpx.post(f"{server}/v1/{path}", json={"model": MODEL} | asked.get(path, turns))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert "prompt is too long" in error["message"]
    assert "this model's maximum context length is 4096 tokens" in error["message"]
    assert path == "messages" or error["code"] == "context_length_exceeded"


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
@pytest.mark.parametrize(
    "metadata", [{f"k{n}": "v" for n in range(17)}, {"k" * 65: "v"}, {"k": "v" * 513}], ids=["many", "key", "value"]
)
def test_metadata_has_openais_bounds(server: str, path: str, metadata: dict[str, str]):
    asked = {"messages": [{"role": "user", "content": "A"}]} if path == "chat/completions" else {"input": "A"}
    answer = httpx.post(f"{server}/v1/{path}", json={"model": MODEL, "metadata": metadata} | asked)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("metadata")


CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {"x": ...}}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "x"}]}


@pytest.mark.parametrize("depth", [300, 900])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"messages": HELLO, "chat_template_kwargs": {"x": ...}}),
        ("chat/completions", {"messages": HELLO, "chat_template_kwargs": {"x": ...}, "deferred": True}),
        ("messages", {"messages": [*HELLO, CALL, RESULT]}),
    ],
)
def test_what_is_nested_deep_is_the_clients_fault(server: str, path: str, body: dict[str, Any], depth: int):
    text = json.dumps({"model": MODEL, "max_tokens": 1} | body, default=lambda _: "here")
    nested = text.replace('"here"', "[" * depth + "]" * depth)
    answer = httpx.post(f"{server}/v1/{path}", content=nested, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400), answer.text


def test_bodies_of_very_many_values_are_not_read(server: str):
    """Reading them would keep all others waiting for seconds."""
    body = {"model": MODEL, "prompt": [[]] * 500_000}
    answer = httpx.post(f"{server}/v1/completions", json=body)
    assert answer.status_code == 413
    assert answer.json()["error"]["message"].startswith("the body has more than 500,000 values")


def test_bodies_are_held_to_their_bounds_before_any_application():
    """As in the front of replicas, which reads them by itself."""

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        raise AssertionError("it has read a body that is too large")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"[" * 200_000

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(BodyLimit(reads, 10**6, 10**6))
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.post("http://front/v1/completions", content=pieces())

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_other_errors_have_the_same_shape(server: str, client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError) as error:
        chat(client, model="gpt-5")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError, match=r"The model 'aaa+ \.\.\. aaa+' does not exist") as error:
        chat(client, model="a" * 100_000)
    assert len(error.value.body["message"]) < 2000
    answers = [
        httpx.post(f"{server}/v1/completions", content=b"{", headers={"content-type": "application/json"}),
        httpx.get(f"{server}/v1/nothing"),
        httpx.get(f"{server}/v1/completions"),
    ]
    assert [answer.status_code for answer in answers] == [400, 404, 405]
    assert all(set(answer.json()["error"]) == {"message", "type", "param", "code"} for answer in answers)


def test_half_of_a_character_is_told_as_it_came(server: str):
    """Texts that were cut anywhere may end with half of a surrogate pair."""
    half = '"\\ud83d"'
    for path, body in (
        ("chat/completions", '{"model": %s, "messages": [{"role": "user", "content": "A"}]}'),
        ("messages", '{"model": %s, "messages": [{"role": "user", "content": "A"}], "max_tokens": 4}'),
    ):
        answer = httpx.post(f"{server}/v1/{path}", content=body % half, headers={"Content-Type": "application/json"})
        assert answer.status_code == 404
        assert "\ud83d" in answer.json()["error"]["message"]
    body = '{"model": "tiny", "input": "A", "max_output_tokens": 4, "instructions": %s, "metadata": {"a": %s}}'
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{server}/v1/responses", content=body % (half, half), headers=headers).json()
    assert (answer["instructions"], answer["metadata"]) == ("\ud83d", {"a": "\ud83d"})
    body = f'{{"model": "tiny", "input": "A", "previous_response_id": {half}}}'
    refused = httpx.post(f"{server}/v1/responses", content=body, headers=headers)
    assert refused.status_code == 400
    assert "half of a surrogate pair is no text: '\\ud83d'" in refused.json()["error"]["message"]
