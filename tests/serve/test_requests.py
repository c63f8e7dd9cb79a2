"""Requests as careless and hostile clients send them: heads without an end, bodies of millions of mistakes, bodies that
are not said to be JSON."""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pydantic
import pytest

from troth.serve.api.body import Body
from troth.serve.api.chat_schema import ChatRequest
from troth.serve.api.embeddings import EmbeddingRequest
from troth.serve.api.messages_schema import MessageRequest
from troth.serve.api.responses_schema import ResponseRequest
from troth.serve.api.schema import CompletionRequest
from troth.serve.api.served import encoded
from troth.serve.api.tokenize import DetokenizeRequest

from .conftest import ServeProcess

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
FILL = b"a" * 2**16
LINES = b"X-Fill: 1\r\n" * 2**13


@pytest.fixture(scope="module")
def process(serve_process: Callable[..., AbstractContextManager[ServeProcess]]) -> Iterator[ServeProcess]:
    with serve_process() as running:
        yield running


@pytest.mark.parametrize(
    ("begin", "fill"),
    [
        (b"GET /", FILL),
        (HEAD + b"X-Fill: ", FILL),
        (HEAD, LINES),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;", FILL),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", LINES),
    ],
    ids=["address", "header", "headers", "chunk", "trailers"],
)
def test_nothing_around_a_body_is_without_an_end(process: ServeProcess, begin: bytes, fill: bytes):
    """The connection ends before memory grows; a head of some size is read."""
    host, port = process.url.removeprefix("http://").split(":")
    before = process.memory()
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(begin)
        with pytest.raises(OSError, match=r"reset by peer|Broken pipe"):
            client.sendall(fill * 2**9)
    assert process.memory() - before < 2**24
    assert httpx.get(f"{process.url}/v1/models", headers={"X-Fill": "a" * 2**15}).status_code == 200


WRONG: list[tuple[type[Body], dict[str, Any]]] = [
    (CompletionRequest, {"prompt": [1] * 1000 + ["a"] * 1000}),
    (CompletionRequest, {"prompt": "a", "logit_bias": {f"{i}x": 1 for i in range(1000)}}),
    (CompletionRequest, {"prompt": "a"} | {f"key{i}": 1 for i in range(1000)}),
    (ChatRequest, {"model": "tiny", "messages": [1] * 1000}),
    (ChatRequest, {"model": "tiny", "messages": [{"role": "user", "content": [1] * 1000}] * 1000}),
    (ResponseRequest, {"model": "tiny", "input": [1] * 1000}),
    (MessageRequest, {"model": "tiny", "max_tokens": 1, "messages": [1] * 1000}),
    (EmbeddingRequest, {"input": [1] * 1000 + ["a"] * 1000}),
    (DetokenizeRequest, {"tokens": ["a"] * 1000}),
]


@pytest.mark.parametrize(("kind", "body"), WRONG)
def test_of_many_mistakes_a_few_are_described(kind: type[Body], body: dict[str, Any]):
    """Each would take 2 KB."""
    with pytest.raises(pydantic.ValidationError) as caught:
        kind(**body)
    assert caught.value.error_count() < 10


def test_the_first_key_that_is_unknown_is_named_among_many(server: str):
    body = {f"key{i}": 1 for i in range(1000)} | {"prompt": "a", "max_tokens": 1}
    answer = httpx.post(f"{server}/v1/completions", json=body)
    assert answer.json()["error"]["message"] == "Unrecognized request argument supplied: key0"


def test_texts_that_can_never_be_taken_in_together(server: str):
    """Not a 429, after which clients would try again."""
    for body, says in (
        ({"prompt": ["a"] * 300, "max_tokens": 1}, "300 texts .* takes in 272 at most"),
        ({"prompt": ["a"] * 300, "n": 100, "max_tokens": 1}, "30,000 texts .* at most 2,048"),
    ):
        answer = httpx.post(f"{server}/v1/completions", json=body)
        assert answer.status_code == 400
        assert re.search(says, answer.json()["error"]["message"])


@pytest.mark.parametrize(
    ("headers", "body", "status", "says"),
    [
        ({}, b"{}", 415, "Content-Type: application/json is needed, not nothing"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"{}", 415, "not application/x-www-form-urlencoded"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"\x1f\x8b", 415, "gzip is not read"),
        ({"Content-Type": "application/json"}, b"", 400, "the request has no body"),
        ({"Content-Type": "application/json"}, b"[]", 400, "valid dictionary"),
    ],
)
def test_what_is_wrong_with_a_body_as_such(server: str, headers: dict[str, str], body: bytes, status: int, says: str):
    answer = httpx.post(f"{server}/v1/completions", content=body, headers=headers)
    assert (answer.status_code, says in answer.json()["error"]["message"]) == (status, True)


def test_long_texts_are_encoded_in_a_thread():
    """Streams go on meanwhile; short texts do not pay for the way there and back."""

    async def where(characters: int) -> list[list[int]]:
        return await encoded(characters, lambda: [[threading.get_ident()]])

    own = [[threading.get_ident()]]
    assert asyncio.run(where(1_000)) == own
    assert asyncio.run(where(500_000)) != own
