"""Gives every request an id (`x-request-id`, the client's own where it sends one), a log line and, if asked, a span;
what goes wrong unforeseen is answered and logged here, with that id."""

import logging
import re
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from troth.serve.api.errors import answer, as_api_error
from troth.serve.api.exchange import Exchange, set_current
from troth.serve.api.inside import INSIDE
from troth.serve.api.traces import Tracing

log = logging.getLogger(__name__)

_OWN_ID = re.compile(rb"[\x21-\x7e]{1,128}")
# Asked every few seconds by machines.
_QUIET = frozenset({"/health", "/ready", "/metrics"})


class Access:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp, tracing: Tracing | None):
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        own = given.decode("ascii") if _OWN_ID.fullmatch(given) else uuid.uuid4().hex
        exchange = Exchange(own, scope["method"], _printable(scope["path"]))
        if inside := scope.get(INSIDE):
            exchange.holder, exchange.priority = inside.holder, inside.priority
        set_current(exchange)

        started = False

        async def identified(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                exchange.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", own.encode())]
            await send(message)

        if scope["path"] in _QUIET:
            return await self._app(scope, receive, identified)
        span = self._tracing.begin(scope) if self._tracing else None
        try:
            await self._app(scope, receive, identified)
        except Exception as error:
            log.exception("%s %s failed", exchange.method, exchange.path, extra={"facts": {"request_id": own}})
            if started:
                raise
            await answer(scope["path"], as_api_error(error))(scope, receive, identified)
        finally:
            facts = exchange.facts()
            text = f"{exchange.method} {exchange.path} {exchange.status} in {facts['seconds']} s"
            log.info(text, extra={"facts": facts})
            if self._tracing and span:
                self._tracing.end(span, exchange)


def _printable(path: str) -> str:
    """A path as a log can have it: a line break in it would begin a line that nobody wrote."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path)
