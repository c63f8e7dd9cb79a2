"""One HTTP request put to an ASGI application within the process, its answer read while it comes."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_EVENT = b"data: "


@dataclass(frozen=True)
class Reply:
    """An answer that has begun; `headers` are those of HTTP, in small letters."""

    status: int
    headers: dict[str, str]
    _messages: "asyncio.Queue[Message]"

    async def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        more = True
        while more:
            message = await self._messages.get()
            more = message.get("more_body", False)
            yield message.get("body", b"")

    async def value(self) -> Any:
        """The whole body read as JSON; None where it is empty."""
        body = b"".join([part async for part in self.parts()])
        return json.loads(body) if body else None

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The values of server-sent events, up to the one that ends the stream."""
        rest = b""
        async for part in self.parts():
            *events, rest = (rest + part).split(b"\n\n")
            for event in events:
                if (data := event.removeprefix(_EVENT)) != b"[DONE]":
                    yield json.loads(data)


@asynccontextmanager
async def asked(
    app: ASGIApp, method: str, path: str, headers: Sequence[tuple[str, str]], body: Any = None
) -> AsyncIterator[Reply]:
    """Ask `app`, with a JSON body where one is given. Leaving is what a client's leaving is over the network.

    The application waits while what it has sent is not read, so that a slow reader costs no memory here.
    """
    messages: asyncio.Queue[Message] = asyncio.Queue(maxsize=1)
    gone = asyncio.Event()
    data = b"" if body is None else json.dumps(body).encode()
    unread = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive() -> Message:
        if unread:
            return unread.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if not gone.is_set():
            await messages.put(message)

    working = asyncio.create_task(_run(app, _scope(method, path, headers, len(data)), receive, send))
    try:
        start = await messages.get()
        found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start.get("headers", ())}
        yield Reply(start.get("status", 500), found, messages)
    finally:
        gone.set()
        while not messages.empty():
            messages.get_nowait()
        await asyncio.gather(working, return_exceptions=True)


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await app(scope, receive, send)
    finally:
        # Of an answer that broke off the reader would otherwise wait for more.
        await send({"type": "http.response.body"})


def _scope(method: str, path: str, headers: Sequence[tuple[str, str]], size: int) -> Scope:
    sent = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "2", "method": method,
        "scheme": "http", "path": path, "raw_path": quote(path).encode(), "root_path": "", "query_string": b"",
        "headers": [*sent, (b"content-type", b"application/json"), (b"content-length", str(size).encode())],
        "client": None, "server": None,
    }  # fmt: skip
