"""One engine with the whole API in a process of its own; requests come as calls and answers leave as ASGI messages."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ray import serve
from starlette.types import Message

from troth.security.keys import Keys
from troth.serve.build import build_app
from troth.serve.replicas.scaling import TTFT
from troth.system.serve import ServeTable

Headers = list[tuple[bytes, bytes]]


class Replica:
    """Ray Serve makes as many as the load needs."""

    # Ray awaits it.
    async def __init__(  # type: ignore[misc]
        self, folder: Path, table: ServeTable, model_id: str, adapters: dict[str, Path],
        keys: Keys | None,
    ):  # fmt: skip
        self._app, _, self._thread = build_app(folder, table, model_id, adapters, keys)
        self._lifespan = self._app.router.lifespan_context(self._app)
        await self._lifespan.__aenter__()

    async def answer(
        self, method: str, path: str, query: bytes, headers: Headers, body: bytes
    ) -> AsyncIterator[list[Message]]:
        """The messages of one answer, those together that were ready together. Ends with its caller."""
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "scheme": "http",
            "method": method, "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query,
            "headers": headers, "client": None, "server": None,
        }  # fmt: skip
        ready: asyncio.Queue[Message | None] = asyncio.Queue()
        asked, gone = iter([body]), asyncio.Event()

        async def receive() -> Message:
            for whole in asked:
                return {"type": "http.request", "body": whole, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            ready.put_nowait(message)

        work = asyncio.create_task(self._app(scope, receive, send))
        work.add_done_callback(lambda _: ready.put_nowait(None))
        try:
            ended = False
            while not ended:
                messages = [await ready.get()]
                while not ready.empty():
                    messages.append(ready.get_nowait())
                ended = messages[-1] is None
                if found := [message for message in messages if message is not None]:
                    yield found
        finally:
            gone.set()
            work.cancel()

    async def metrics(self) -> tuple[str, str]:
        """This replica's name, and its page for Prometheus."""
        page = b""
        async for messages in self.answer("GET", "/metrics", b"", [], b""):
            page += b"".join(message.get("body", b"") for message in messages)
        return serve.get_replica_context().replica_id.unique_id, page.decode()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Ray Serve for `Scaling`."""
        return {TTFT: self._thread.expected_wait}

    def check_health(self) -> None:
        """Asked by Ray Serve, which replaces a replica that raises."""
        if not self._thread.alive:
            raise RuntimeError("the engine has stopped")
