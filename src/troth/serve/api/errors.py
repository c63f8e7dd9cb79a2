"""Errors in OpenAI's shape, {"error": {message, type, param, code}}, whatever went wrong."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope, Send

from troth.serve.engine.thread import EngineStopped, Overloaded, Unread

RETRY_AFTER_SECONDS = 1


class ApiError(Exception):
    """An answer other than success: HTTP `status`, and the fields of the error object; `retry_after` in seconds."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, retry_after: float = 0
    ):
        super().__init__(message)
        self.retry_after = max(RETRY_AFTER_SECONDS, math.ceil(retry_after))
        self.status = status
        self.param = param
        self.code = code

    @property
    def type(self) -> str:
        """OpenAI's name for the kind of error."""
        if self.status == 429:
            return "rate_limit_error"
        if self.status == 401:
            return "authentication_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self) -> dict[str, Any]:
        """The JSON value of the answer, and of an error event within a stream."""
        return {"error": {"message": str(self), "type": self.type, "param": self.param, "code": self.code}}


def as_api_error(error: Exception) -> ApiError:
    """What a client is told of an exception; the inside of the server stays inside."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Overloaded):
        return ApiError(429, str(error), code="too_many_requests", retry_after=error.retry_after)
    if isinstance(error, Unread):
        return ApiError(408, str(error), code="unread")
    if isinstance(error, EngineStopped):
        return ApiError(503, "the server is shutting down or has failed", code="unavailable")
    return ApiError(500, "the server failed to answer", code="internal_error")


def add_error_handlers(app: FastAPI) -> None:
    """Make every error of `app` leave in OpenAI's shape."""

    @app.exception_handler(ApiError)
    @app.exception_handler(Overloaded)
    @app.exception_handler(EngineStopped)
    @app.exception_handler(Exception)
    async def _any(_: Request, error: Exception) -> JSONResponse:
        return answer(as_api_error(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        return answer(
            ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}"), error.headers
        )

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(_first_problem(error.errors()))


def answer(error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The HTTP answer that tells of an error."""
    headers = dict(headers or {})
    if error.status in (429, 503):
        headers["Retry-After"] = str(error.retry_after)
    return JSONResponse(error.body(), error.status, headers)


async def refuse(scope: Scope, send: Send, error: ApiError, headers: Mapping[str, str] | None = None) -> None:
    """Answer a request with an error before any of its body is read."""

    async def nothing() -> NoReturn:
        raise AssertionError("an error's answer reads nothing")

    await answer(error, headers)(scope, nothing, send)


def _first_problem(problems: Sequence[Any]) -> ApiError:
    # Of a union pydantic reports every branch; the one that fits the value best fails deepest.
    alike = [problem for problem in problems if problem["loc"][:2] == problems[0]["loc"][:2]]
    first = max(alike, key=lambda problem: len(problem["loc"]))
    place = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['ctx']['error']}")
    param = place[0] if place else None
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"Unrecognized request argument supplied: {'.'.join(place)}", param, "unknown_parameter")
    message = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{'.'.join(place)}: {message}" if place else message, param, "invalid_value")
