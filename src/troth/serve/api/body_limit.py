"""Refuses request bodies beyond a size, or of too many values, with 413, having read no more of them than that."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from troth.serve.api.errors import ApiError, refuse

# Reading and checking a body takes up to 1.4 microseconds for each, while nothing else is answered.
MOST_VALUES = 500_000


def most_values(text: bytes) -> int:
    """How many values JSON has at most. Commas and brackets of its strings are counted too, which costs little: prose
    has one in a hundred bytes, and no context holds as much of tables or code as it takes to exceed `MOST_VALUES`."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


class BodyLimit:
    """ASGI middleware. Bodies have at most `most` bytes and MOST_VALUES values, those sent to /v1/files at most
    `most_of_file` bytes."""

    def __init__(self, app: ASGIApp, most: int, most_of_file: int):
        self._app = app
        self._most = most
        self._most_of_file = most_of_file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        is_file = scope["path"] == "/v1/files"
        most = self._most_of_file if is_file else self._most
        says = f"the body has more than {most:,} bytes, the most that this server reads"
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > most:
            return await refuse(scope, send, ApiError(413, says, code="request_too_large"), _CLOSING)
        read = values = 0

        async def counted() -> Message:
            nonlocal read, values
            message = await receive()
            body = message.get("body", b"")
            read += len(body)
            values += 0 if is_file else most_values(body)
            # What reads the body turns other exceptions into a 400, but lets these pass.
            if read > most:
                raise HTTPException(413, says, _CLOSING)
            if values > MOST_VALUES:
                raise HTTPException(413, _TOO_MANY, _CLOSING)
            return message

        try:
            await self._app(scope, counted, send)
        except HTTPException as error:  # FastAPI turns it into an answer by itself; the front of replicas has none.
            await refuse(scope, send, ApiError(413, error.detail, code="request_too_large"), _CLOSING)


_TOO_MANY = f"the body has more than {MOST_VALUES:,} values, the most that this server reads"
# The rest of the body is on its way: the connection cannot be used again without reading it.
_CLOSING = {"Connection": "close"}
