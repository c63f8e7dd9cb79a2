"""Streams that are gone on with by another replica, here the same server asked twice."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from troth.serve.replicas.resume import Diverged, Relayed, Sent

ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"stream_options": {"include_usage": True}},
    "/v1/completions": {"prompt": "A bird"},
    "/v1/messages": {},
}


def stream(server: str, path: str, **more: Any) -> bytes:
    """The whole stream of an answer."""
    body: dict[str, Any] = {"model": "tiny", "max_tokens": 30, "stream": True, "temperature": 0}
    if path != "/v1/completions":
        body["messages"] = [{"role": "user", "content": "A bird"}]
    answer = httpx.post(server + path, json=body | ASKED[path] | more, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return answer.content


@pytest.mark.parametrize("path", ASKED)
def test_a_client_gets_one_answer_of_two_replicas(server: str, path: str):
    first, second = stream(server, path), stream(server, path)
    assert first != second, "each answer has an id of its own"
    # Wherever the first one broke off, within events too, and however the second one is cut.
    for cut in (0, 1, 150, len(first) // 2, len(first) - 1):
        sent = Sent()
        got = sent.take(first[:cut])
        sent.again()
        got += b"".join(sent.take(second[place : place + 97]) for place in range(0, len(second), 97))
        assert without_time(got) == without_time(first)


def without_time(events: bytes) -> bytes:
    """With no event of the first answer sent, the second one's time is as good."""
    return re.sub(rb"[0-9a-f]{32}", b"", re.sub(rb'"created":\d+', b"", events))


def test_ids_and_times_stay_those_that_were_seen_first(server: str):
    first, second = (stream(server, "/v1/chat/completions") for _ in range(2))
    sent = Sent()
    got = sent.take(first[:400])
    sent.again()
    assert got + sent.take(second) == first


def test_the_cache_of_another_replica_holds_other_prompts(server: str):
    told = {"include_usage": True, "continuous_usage_stats": True}
    asked = {"prompt": "Where there is fire, there is smoke. " * 9, "stream_options": told}
    first, second = (stream(server, "/v1/completions", **asked) for _ in range(2))
    assert b'"cached_tokens":0' in first
    assert b'"cached_tokens":0' not in second
    sent = Sent()
    got = sent.take(first[: len(first) // 2])
    sent.again()
    assert got + sent.take(second) == first


def test_another_answer_is_found_out(server: str):
    first, second = (stream(server, "/v1/completions", temperature=2, seed=seed) for seed in (1, 2))
    sent = Sent()
    sent.take(first[: len(first) // 2])
    sent.again()
    with pytest.raises(Diverged, match="is another one"):
        sent.take(second)


@pytest.mark.parametrize(
    ("path", "kind", "resumes"),
    [
        ("/v1/completions", b"text/event-stream; charset=utf-8", True),
        ("/v1/completions", b"application/json", False),
        ("/v1/responses", b"text/event-stream; charset=utf-8", False),
    ],
)
def test_streams_are_gone_on_with_unless_they_are_stored_too(path: str, kind: bytes, resumes: bool):
    got: list[Any] = []

    async def send(message: Any) -> None:
        got.append(message)

    async def run() -> None:
        relayed = Relayed(path, send)
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
        await relayed.take(start)
        assert (relayed.begun, relayed.resumes) == (start, resumes)
        await relayed.take({"type": "http.response.body", "body": b"data: 1\n\ndata:", "more_body": True})
        relayed.again()
        await relayed.take(start)
        await relayed.take({"type": "http.response.body", "body": b"data: 1\n\ndata: 2\n\n", "more_body": False})
        with pytest.raises(Diverged, match="its status is 429"):
            await relayed.take(start | {"status": 429})

    asyncio.run(run())
    assert [message["type"] for message in got] == ["http.response.start"] + ["http.response.body"] * 2
    if resumes:
        assert [message["body"] for message in got[1:]] == [b"data: 1\n\n", b"data: 2\n\n"]
