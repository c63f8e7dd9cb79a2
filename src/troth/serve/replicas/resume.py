"""A stream whose replica has died, gone on with by another: it is asked the same, and what the client has of its answer
is left out.

That is right where the answer is the same, with temperature 0 or a seed, and each event that is left out is compared:
another answer is found out at its first other token. Ids and times are those that the client has seen first.
"""

import hashlib
import re

from starlette.types import Message, Send

_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/messages")
"""Of answers that are nothing but a stream: those of the Responses API are stored, too, under their ids."""
_FRESH = re.compile(rb'(?<=[-_])[0-9a-f]{32}(?=")|(?<="created":)\d+|(?<="cached_tokens":)\d+')
_END = b"\n\n"


class Diverged(Exception):
    """Another replica writes another answer."""


class Sent:
    """What a client has of a stream of events."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []
        self._first_names: list[bytes] = []
        self.again()

    def again(self) -> None:
        """Another replica begins with the answer."""
        self._place = 0
        self._names: dict[bytes, int] = {}
        self._rest = b""

    def take(self, part: bytes) -> bytes:
        """Of a further part of the replica's stream the events that the client lacks. Raises Diverged."""
        *events, self._rest = (self._rest + part).split(_END)
        lacking = []
        for event in events:
            event = _FRESH.sub(self._first, event) + _END
            digest = hashlib.blake2b(event, digest_size=16).digest()
            if self._place == len(self._digests):
                self._digests.append(digest)
                lacking.append(event)
            elif digest != self._digests[self._place]:
                raise Diverged(f"event {self._place + 1} is another one")
            self._place += 1
        return b"".join(lacking)

    def _first(self, found: re.Match[bytes]) -> bytes:
        """What stood in the first answer where this one has an id, a time or a count of cached tokens of its own."""
        place = self._names.setdefault(found[0], len(self._names))
        if place == len(self._first_names):
            self._first_names.append(found[0])
        return self._first_names[place]


class Relayed:
    """An answer on its way to a client: `begun` is the message that it began with, and with `resumes` another replica
    can go on with it."""

    def __init__(self, path: str, send: Send):
        self.begun: Message | None = None
        self.resumes = False
        self._path, self._send, self._sent = path, send, Sent()

    def again(self) -> None:
        """A replica, the first or another one, begins with the answer."""
        self._sent.again()

    async def take(self, message: Message) -> None:
        """Send of a replica's message what the client lacks. Raises Diverged."""
        if message["type"] == "http.response.start":
            # Ray tells the request's id itself, the same one.
            message["headers"] = [pair for pair in message["headers"] if pair[0] != b"x-request-id"]
            if self.begun is not None:
                if message["status"] != self.begun["status"]:
                    raise Diverged(f"its status is {message['status']}")
                return
            self.begun, headers = message, dict(message["headers"])
            self.resumes = self._path in _PATHS and headers.get(b"content-type", b"").startswith(b"text/event-stream")
        elif self.resumes:
            message["body"] = self._sent.take(message.get("body", b""))
        await self._send(message)
