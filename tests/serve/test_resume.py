"""Streams that are gone on with by another replica, here the same server asked twice."""

import re
from typing import Any

import httpx
import pytest

from troth.serve.replicas.resume import Diverged, Sent, can_resume

ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"stream_options": {"include_usage": True}},
    "/v1/completions": {"prompt": "A bird"},
    "/v1/messages": {},
}


def stream(server: str, path: str, **more: Any) -> tuple[bytes, dict[bytes, bytes]]:
    """The whole stream of an answer, and its headers."""
    body: dict[str, Any] = {"model": "tiny", "max_tokens": 30, "stream": True, "temperature": 0}
    if path != "/v1/completions":
        body["messages"] = [{"role": "user", "content": "A bird"}]
    answer = httpx.post(server + path, json=body | ASKED[path] | more, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.content, dict(answer.headers.raw)


@pytest.mark.parametrize("path", ASKED)
def test_a_client_gets_one_answer_of_two_replicas(server: str, path: str):
    (first, headers), (second, _) = stream(server, path), stream(server, path)
    assert can_resume(path, {name.lower(): value for name, value in headers.items()})
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
    (first, _), (second, _) = (stream(server, "/v1/chat/completions") for _ in range(2))
    sent = Sent()
    got = sent.take(first[:400])
    sent.again()
    assert got + sent.take(second) == first


def test_another_answer_is_found_out(server: str):
    (first, _), (second, _) = (stream(server, "/v1/completions", temperature=2, seed=seed) for seed in (1, 2))
    sent = Sent()
    sent.take(first[: len(first) // 2])
    sent.again()
    with pytest.raises(Diverged, match="is another one"):
        sent.take(second)


def test_stored_answers_and_those_at_once_are_not_gone_on_with():
    events, json = {b"content-type": b"text/event-stream; charset=utf-8"}, {b"content-type": b"application/json"}
    assert not can_resume("/v1/responses", events)
    assert not can_resume("/v1/completions", json)
