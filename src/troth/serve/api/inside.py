"""Requests that the server puts to itself, for batches and deferred answers: the same routes, checks and limits."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

# Where an ASGI scope has an `Inside`; what comes over the network has no such entry.
INSIDE = "troth.inside"
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Inside:
    """Whom a request is put for, and after whose requests it comes (as `Request.priority`)."""

    holder: str | None
    priority: int


@dataclass(frozen=True)
class Answer:
    """What came of a request; `id` is its x-request-id."""

    status: int
    id: str
    body: Any


Ask = Callable[[str, Any, Inside], Awaitable[Answer]]


def asker(app: ASGIApp) -> Ask:
    """A function that posts a JSON body to a path of `app`.

    It waits while the server is too busy to take the request. Cancelling it cancels the request.
    """

    async def ask(path: str, body: Any, inside: Inside) -> Answer:
        async def marked(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, INSIDE: inside}, receive, send)

        transport = httpx.ASGITransport(marked, raise_app_exceptions=False)
        # All that JSON can say, half of a surrogate pair too: what is wrong with it, the route tells.
        sent = json.dumps(body).encode("ascii")
        while True:
            request = httpx.Request("POST", f"http://inside{path}", content=sent, headers=_JSON)
            answer = await transport.handle_async_request(request)
            if answer.status_code != 429:
                break
            await asyncio.sleep(float(answer.headers["retry-after"]))
        return Answer(answer.status_code, answer.headers["x-request-id"], json.loads(await answer.aread()))

    return ask
