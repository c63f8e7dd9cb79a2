"""Bodies of all kinds, valid and nearly so, to every route: each is answered or refused in its dialect's own form, and
nothing is left at work."""

import copy
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import wait_until

Strategies = dict[str, st.SearchStrategy[Any]]

text = st.lists(
    st.sampled_from(
        ["bird", "smoke", "<|end|>", "<|endoftext|>", "<tool_call>", "</think>", "\n", "\0", "é😀", "\ud83d", "{", '"']
    ),
    min_size=1, max_size=6,
).map(" ".join)  # fmt: skip
ids = st.lists(st.integers(0, 390), min_size=1, max_size=8)
odd = ids | st.sampled_from([[], [-1], [10**30], [500], [[]]])
schema = st.sampled_from(
    [
        {"type": "object", "properties": {"a": {"enum": ["b", 1]}}, "required": ["a"]}, {"type": "object"}, {}, True,
        {"type": "array", "items": {"type": "integer"}, "maxItems": 2}, {"anyOf": [{"const": 1}, {"type": "null"}]},
        {"type": "string", "pattern": "^a{2}$"}, {"type": "string", "pattern": "["}, {"type": "wizard"}, {"enum": []},
        {"$ref": "#"}, {"$ref": "#/nowhere"}, {"minItems": 3, "maxItems": 1}, {"const": "\ud83d"},
    ]
)  # fmt: skip
function = st.fixed_dictionaries({"name": st.sampled_from(["f", "g", "no name"])}, optional={"parameters": schema})
tool = st.fixed_dictionaries({"type": st.just("function"), "function": function})
call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
message = st.fixed_dictionaries({"role": st.sampled_from(["user", "user", "system", "developer"]), "content": text})
message |= st.sampled_from(
    [
        {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "assistant", "content": "There"},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "noon"}]}, {"role": "user"},
    ]
)  # fmt: skip
formats = schema.map(lambda s: {"type": "json_schema", "json_schema": {"name": "x", "schema": s, "strict": True}})
structured = st.sampled_from(
    [{"regex": "a+"}, {"regex": "["}, {"choice": ["yes", ""]}, {"grammar": 'root ::= "a" root | "b"'}, {"json": {}}]
)
true = st.just(True)
sampling: Strategies = {
    "stream": true, "n": st.integers(1, 3), "temperature": st.floats(0, 2), "top_p": st.floats(0, 1), "stop": text,
    "top_k": st.integers(-1, 5), "seed": st.integers(-(2**64), 2**64), "stop_token_ids": ids, "ignore_eos": true,
    "min_tokens": st.integers(0, 9), "repetition_penalty": st.floats(1e-9, 1e9), "allowed_token_ids": ids,
    "logit_bias": st.dictionaries(st.integers(0, 420).map(str), st.floats(-100, 100), max_size=40),
    "bad_words": st.lists(text), "prompt_logprobs": st.integers(0, 20), "truncate_prompt_tokens": st.integers(-1, 9),
    "return_token_ids": true, "response_format": formats, "structured_outputs": structured, "cache_salt": text,
    "stream_options": st.just({"include_usage": True}), "skip_special_tokens": st.just(False),
}  # fmt: skip
few = st.integers(1, 12)
named = {"model": st.just("talker")}
chat = named | {"messages": st.lists(message, min_size=1, max_size=3), "max_tokens": few}
block = st.sampled_from(
    [
        {"type": "text", "text": "bird"}, {"type": "thinking", "thinking": "so"}, {"type": "image"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}}, {"type": "tool_result", "tool_use_id": "t"},
    ]
)  # fmt: skip
turn = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": text | st.lists(block)})
ROUTES: dict[str, tuple[Strategies, Strategies]] = {
    "/v1/chat/completions": (chat, sampling | {
        "tools": st.lists(tool), "tool_choice": st.sampled_from(["required", "auto"]), "logprobs": true,
        "top_logprobs": st.integers(0, 20), "reasoning_effort": st.sampled_from(["low", "none"]), "experts": true,
        "continue_final_message": true, "chat_template_kwargs": st.dictionaries(st.sampled_from(["self", "x"]), text),
        "deferred": true,
    }),
    "/v1/completions": (named | {"prompt": text | odd | st.lists(text) | st.lists(odd), "max_tokens": few}, sampling | {
        "suffix": text, "logprobs": st.integers(0, 20), "echo": true, "max_tokens": st.just(0),
    }),
    "/v1/responses": (named | {"input": text | st.lists(message), "max_output_tokens": few}, {
        "stream": true, "previous_response_id": text, "top_logprobs": st.just(3), "instructions": text,
        "text": schema.map(lambda s: {"format": {"type": "json_schema", "name": "x", "schema": s}}),
        "tools": st.lists(function.map(lambda f: {"type": "function"} | f)), "tool_choice": st.just("required"),
        "metadata": st.dictionaries(text, text),
    }),
    "/v1/messages": (named | {"messages": st.lists(turn, min_size=1, max_size=3), "max_tokens": few}, {
        "stream": true, "system": text, "thinking": st.just({"type": "enabled", "budget_tokens": 3}),
        "tools": st.lists(schema.map(lambda s: {"name": "f", "input_schema": s})), "stop_sequences": st.lists(text),
        "tool_choice": st.just({"type": "any"}), "output_config": formats.map(lambda f: {"format": f["json_schema"]}),
    }),
    "/v1/embeddings": (named | {"input": text | odd | st.lists(text)}, {
        "dimensions": st.integers(1, 70), "encoding_format": st.just("base64"), "truncate_prompt_tokens": few,
    }),
    "/tokenize": ({}, {"prompt": text, "messages": st.lists(message), "tools": st.lists(tool)}),
    "/detokenize": ({"tokens": odd}, {}),
    "/v1/batches": ({"input_file_id": text, "endpoint": st.just("/v1/completions")}, {"metadata": true}),
}  # fmt: skip
nested: Any = 1
for _ in range(300):
    nested = {"a": [nested]}
junk = st.sampled_from(
    [None, True, 0, -1, 10**40, 1e308, float("nan"), "", "\ud83d", "y" * 100_000, [], {}, [None], [1] * 3000, nested]
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of all that is in a JSON value."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(part, (*path, key))


@st.composite
def asked(draw: st.DrawFn) -> tuple[str, Any]:
    """A route, and a body with a few of its fields, of which half have something in them that is something else."""
    path = draw(st.sampled_from([*sorted(ROUTES), *["/v1/chat/completions", "/v1/completions"] * 3]))
    needed, optional = ROUTES[path]
    chosen = [key for key in sorted(optional) if draw(st.integers(0, 9)) == 9]
    body = {key: draw(value) for key, value in (needed | {key: optional[key] for key in chosen}).items()}
    if draw(st.booleans()) and body:
        body = copy.deepcopy(body)
        *way, last = draw(st.sampled_from(list(places(body))))
        at: Any = body
        for key in way:
            at = at[key]
        match draw(st.sampled_from(["other", "none", "list", "name"])):
            case "none":
                del at[last]
            case "list":
                at[last] = [at[last]]
            case "name" if isinstance(at, dict):
                at["magic"] = at.pop(last)
            case _:
                at[last] = draw(junk)
    return path, body


def refused(path: str, answer: Any) -> None:
    """Whether an error has the form that its dialect's clients know, and words for people."""
    error = answer["error"]
    assert set(answer) == ({"type", "error", "request_id"} if path == "/v1/messages" else {"error"})
    assert path == "/v1/messages" or set(error) == {"message", "type", "param", "code"}
    assert 0 < len(error["message"]) < 1500
    assert not any(inner in error["message"] for inner in ("Traceback", "[type=", "object at 0x", "pydantic"))


def strict(data: str) -> Any:
    """JSON as other languages read it: without NaN."""
    return json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.slow
def test_any_body_is_answered_or_refused_in_its_own_form(
    run_server: Callable[..., AbstractContextManager[str]], talker: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    @settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(asked(), st.none() | st.integers(0, 3))
    def ask(request: tuple[str, Any], leaves: int | None) -> None:
        path, body = request
        headers = {"Content-Type": "application/json"}
        with client.stream("POST", path, content=json.dumps(body), headers=headers) as answer:
            assert answer.status_code in (200, 400, 404)
            if not answer.headers["content-type"].startswith("text/event-stream"):
                whole = strict(answer.read().decode())
                if answer.status_code != 200:
                    refused(path, whole)
                return
            data = []
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    data.append(line.removeprefix("data: "))
                if leaves is not None and len(data) > leaves:
                    return
            done = data[-1] == "[DONE]" if path != "/v1/messages" else '"message_stop"' in data[-1]
            assert done, "a stream has its end"
            assert not any(strict(event).get("error") for event in data if event != "[DONE]")

    limits = {"max_batch": 4, "max_step_tokens": 64, "cache_tokens": 2048, "files_dir": tmp_path / "files"}
    with run_server(talker, **limits) as url, httpx.Client(base_url=url, timeout=60) as client:
        ask()

        def free() -> bool:
            health = client.get("/health").json()
            return health["running"] == 0 and health["free_cache_blocks"] == health["cache_blocks"]

        wait_until(free)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
