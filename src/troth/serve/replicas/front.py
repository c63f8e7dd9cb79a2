"""Takes requests off the network and hands each to a replica, as an ASGI application within Ray Serve.

A replica that dies before its answer has begun, or within a stream that is the same from any (see `resume`), is
replaced by another without the client's knowing; one that dies within another stream ends it with an error event.
"""

import asyncio
import json
import logging
from typing import Any, cast

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from troth.serve.api.body_limit import BodyLimit
from troth.serve.api.drain import Drain, Draining
from troth.serve.api.errors import ApiError, refuse
from troth.serve.api.origins import Origins
from troth.serve.replicas.affinity import affinity
from troth.serve.replicas.exposition import merged_metrics
from troth.serve.replicas.resume import Diverged, Relayed
from troth.system.serve import ServeTable

log = logging.getLogger(__name__)

ATTEMPTS = 3


@serve.ingress()
class Front:
    """`replicas` is Ray's handle of the replicas."""

    def __init__(self, replicas: DeploymentHandle, table: ServeTable):
        self._replicas = replicas
        self._table = table
        self._drain = Drain()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        table = self._table
        app: ASGIApp = Draining(BodyLimit(self._answer, table.max_body_bytes, table.max_file_bytes), self._drain)
        # Here and not in the replicas, so that what this front answers by itself can be read, too.
        return Origins(app, table.allowed_origins) if table.allowed_origins else app

    async def drain(self) -> None:
        """Take no new requests, and return when those at work have ended or have had their time."""
        self._drain.begin(self._table.drain_seconds)
        while not self._drain.over:
            await asyncio.sleep(0.05)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _live(receive, send)
        if scope["path"] == "/ready" and self._drain.begun:
            return await refuse(scope, send, ApiError(503, "the server is shutting down", code="unavailable"))
        if scope["path"] == "/metrics":
            found = await self._replicas.broadcast("metrics").results_async(return_exceptions=True)
            # One that is just dying has no page.
            pages: dict[str, str] = dict(page for page in found if isinstance(page, tuple))
            return await Response(merged_metrics(pages), media_type=CONTENT_TYPE_LATEST)(scope, receive, send)
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        relay = asyncio.create_task(self._relay(scope, bytes(body), send))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((relay, leaving), return_when=asyncio.FIRST_COMPLETED)
            if relay.done():
                await relay
        finally:
            leaving.cancel()
            relay.cancel()

    async def _relay(self, scope: Scope, body: bytes, send: Send) -> None:
        key = affinity(dict(scope["headers"]), body)
        handle = self._replicas.options(stream=True, session_id=key)
        relayed = Relayed(scope["path"], send)
        for _ in range(ATTEMPTS):
            relayed.again()
            answer = cast(
                DeploymentResponseGenerator[list[Message]],
                handle.answer.remote(
                    scope["method"], scope["path"], scope["query_string"], list(scope["headers"]), body
                ),
            )
            try:
                async for messages in answer:
                    for message in messages:
                        await relayed.take(message)
                return None
            except asyncio.CancelledError:
                answer.cancel()
                raise
            except Diverged as error:
                log.warning("a stream is not gone on with: %s", error)
                answer.cancel()
                break
            except BackPressureError:
                if relayed.begun:
                    break
                says = f"{self._table.max_waiting} requests wait already: try again shortly"
                return await refuse(scope, send, ApiError(429, says, code="too_many_requests"))
            except (RayError, RayServeException, DeploymentUnavailableError) as error:
                log.warning("a replica failed: %s", type(error).__name__)
                if relayed.begun and not relayed.resumes:
                    break
        if relayed.begun:
            return await _break_off(relayed.begun, send)
        says = "the replica that was to answer has failed, and so did others"
        return await refuse(scope, send, ApiError(503, says, code="unavailable"))


async def _break_off(begun: Message, send: Send) -> None:
    """End an answer whose replica has died: a stream with an event that clients of all dialects raise as an error."""
    if not dict(begun["headers"]).get(b"content-type", b"").startswith(b"text/event-stream"):
        # Without its last part the client's library reports the answer as cut off.
        raise ConnectionAbortedError("the replica failed within an answer")
    error: dict[str, Any] = ApiError(503, "the replica that was answering has failed", code="replica_failed").body()
    event = f"event: error\ndata: {json.dumps({'type': 'error'} | error)}\n\n"
    await send({"type": "http.response.body", "body": event.encode(), "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _live(receive: Receive, send: Send) -> None:
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return
