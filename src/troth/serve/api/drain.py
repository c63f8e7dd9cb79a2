"""Ends a server without cutting off an answer: it takes nothing new, finishes what runs, then exits.

Orchestrators send SIGTERM and stop routing once /ready is 503; what still arrives is told to go elsewhere.
"""

import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from troth.serve.api.errors import ApiError, refuse

_STILL_ANSWERED = frozenset({"/health", "/ready", "/metrics"})


class Drain:
    """How many requests are at work, and whether the end has begun."""

    def __init__(self) -> None:
        self.begun = False
        self.active = 0
        self._deadline = 0.0

    def begin(self, seconds: float) -> None:
        """Take no new requests; those at work have `seconds` to end."""
        self.begun = True
        self._deadline = time.monotonic() + seconds

    @property
    def late(self) -> bool:
        """Whether requests are at work beyond the time they had."""
        return self.begun and self.active > 0 and time.monotonic() > self._deadline

    @property
    def over(self) -> bool:
        """Whether nothing is at work any more, and nothing will be."""
        return self.begun and (self.active == 0 or self.late)


class Draining:
    """ASGI middleware: counts requests, and answers 503 to new ones once the drain has begun."""

    def __init__(self, app: ASGIApp, drain: Drain):
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _STILL_ANSWERED:
            return await self._app(scope, receive, send)
        if self._drain.begun:
            says = "the server is shutting down and takes no new requests"
            return await refuse(scope, send, ApiError(503, says, code="unavailable"), {"Connection": "close"})
        self._drain.active += 1
        try:
            return await self._app(scope, receive, send)
        finally:
            self._drain.active -= 1


class DrainingServer(uvicorn.Server):
    """uvicorn with a drain in place of its own end, which would close the port at once; a second signal skips it.

    `cut_off` ends what is still at work after `seconds`, so that streams close with an error they can show.
    """

    def __init__(self, config: uvicorn.Config, drain: Drain, seconds: float, cut_off: Callable[[], None]):
        super().__init__(config)
        self._drain = drain
        self._seconds = seconds
        self._cut_off = cut_off

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drain.begun:
            self.should_exit = self.force_exit = True
        else:
            self._drain.begin(self._seconds)

    async def on_tick(self, counter: int) -> bool:
        if self._drain.late:
            self._cut_off()
        self.should_exit = self.should_exit or self._drain.over
        return await super().on_tick(counter)
