"""What a server says when something goes wrong that nobody foresaw."""

import asyncio
import logging

import httpx
import pytest
from fastapi import FastAPI

from troth.serve.api.access import Access
from troth.serve.api.errors import add_error_handlers
from troth.serve.api.inside import Inside, asker
from troth.serve.engine.thread import Overloaded


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(Access, tracing=None)
    add_error_handlers(app)
    times = iter(range(10))

    @app.post("/fails")
    @app.post("/v1/messages/fails")
    async def fails() -> None:
        raise KeyError("a secret of the inside")

    @app.post("/busy")
    async def busy() -> str:
        if next(times) == 0:
            raise Overloaded("too much at once", retry_after=0.2)
        return "at last"

    @app.post("/later")
    async def later() -> None:
        raise Overloaded("too much", retry_after=7.2)

    return app


def post(app: FastAPI, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post(path, headers={"x-request-id": "it-was-me"})

    return asyncio.run(ask())


def test_the_unforeseen_is_a_500_with_an_id_that_the_log_knows(app: FastAPI, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="troth"):
        answer = post(app, "/fails")
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "it-was-me"
    assert answer.json()["error"] == {
        "message": "the server failed to answer", "type": "server_error", "param": None, "code": "internal_error",
    }  # fmt: skip
    ours = [record for record in caplog.records if getattr(record, "facts", {}).get("request_id") == "it-was-me"]
    failed, line = ours
    assert failed.exc_info[0] is KeyError
    assert line.facts["status"] == 500
    assert post(app, "/v1/messages/fails").json()["error"]["type"] == "api_error"


def test_an_address_cannot_write_lines_of_its_own_into_the_log(app: FastAPI, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="troth"):
        assert post(app, "/ä%0A12:00:00 INFO forged%1B[31m").status_code == 404
    (text,) = (record.getMessage() for record in caplog.records if record.name == "troth.serve.api.access")
    assert text.startswith(r"POST /ä\n12:00:00 INFO forged\x1b[31m 404 in ")


def test_retry_after_is_in_whole_seconds_rounded_up(app: FastAPI):
    answer = post(app, "/later")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "8")


def test_requests_from_within_wait_while_the_server_is_busy(app: FastAPI):
    answer = asyncio.run(asker(app)("/busy", {}, Inside(None, 0)))
    assert (answer.status, answer.body) == (200, "at last")
    assert len(answer.id) == 32
