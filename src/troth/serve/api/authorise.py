"""Lets nobody in without an API key, as `Authorization: Bearer` (OpenAI) or `x-api-key` (Anthropic)."""

import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from troth.security.keys import Keys
from troth.serve.api.errors import ApiError, refuse
from troth.serve.api.exchange import current_exchange
from troth.serve.api.inside import INSIDE

log = logging.getLogger(__name__)

# What load balancers, Prometheus and a browser's first look at the chat page ask for, all without secrets.
OPEN = frozenset({"/", "/health", "/ready", "/metrics"})


class Authorise:
    """ASGI middleware: 401 for every path outside OPEN unless the request shows one of `keys`; 503 while the file of
    keys cannot be read."""

    def __init__(self, app: ASGIApp, keys: Keys):
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN and INSIDE not in scope:
            try:
                holder = self._keys.holder(key) if (key := _shown(scope)) else None
            except (OSError, ValueError) as unreadable:
                log.error("keys cannot be read, so nobody is let in: %s", unreadable)
                return await refuse(scope, send, ApiError(503, "keys cannot be read now", code="unavailable"))
            if holder is None:
                says = "no API key, or one that is not known: send it as `Authorization: Bearer KEY`"
                error = ApiError(401, says, code="invalid_api_key")
                return await refuse(scope, send, error, {"WWW-Authenticate": "Bearer"})
            if exchange := current_exchange():
                exchange.holder = holder
        return await self._app(scope, receive, send)


def _shown(scope: Scope) -> str | None:
    headers = dict(scope["headers"])
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return headers.get(b"x-api-key", b"").decode("latin-1") or None
