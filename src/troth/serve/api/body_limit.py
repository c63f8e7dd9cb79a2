"""Refuses request bodies beyond a size with 413, having read no more of them than that."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from troth.serve.api.errors import ApiError, refuse


class BodyLimit:
    """ASGI middleware. Bodies have at most `most` bytes, those sent to /v1/files at most `most_of_file`."""

    def __init__(self, app: ASGIApp, most: int, most_of_file: int):
        self._app = app
        self._most = most
        self._most_of_file = most_of_file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        most = self._most_of_file if scope["path"] == "/v1/files" else self._most
        says = f"the body has more than {most:,} bytes, the most that this server reads"
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > most:
            return await refuse(scope, send, ApiError(413, says, code="request_too_large"), _CLOSING)
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                # What reads the body turns other exceptions into a 400, but lets this one pass.
                raise HTTPException(413, says, _CLOSING)
            return message

        return await self._app(scope, counted, send)


# The rest of the body is on its way: the connection cannot be used again without reading it.
_CLOSING = {"Connection": "close"}
