"""Errors in OpenAI's shape, {"error": {message, type, param, code}}, or Anthropic's where its clients ask."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope, Send

from troth.serve.engine.thread import EngineStopped, Overloaded, Unread

RETRY_AFTER_SECONDS = 1
# Messages repeat what was wrong, which may be megabytes.
_LONGEST = 1000
_HALF = _LONGEST // 2
_ANTHROPIC_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
    429: "rate_limit_error", 503: "overloaded_error",
}  # fmt: skip
# What vLLM called so until it had one name for all.
_RENAMED = {
    f"guided_{kind}": f'; it is "structured_outputs": {{"{kind}": ...}}'
    for kind in ("json", "regex", "choice", "grammar")
}
NO_THREADS = "thread_unsupported_request"
"""Anthropic's code for a request that no conversation is kept for; its tool runner then sends the whole of it."""


class AnyJson(JSONResponse):
    """JSON that may repeat what a client said: half of a surrogate pair, as cut texts end with and UTF-8 has not, goes
    back as the escape that it came as."""

    def render(self, content: Any) -> bytes:
        try:
            return super().render(content)
        except UnicodeEncodeError:
            return json.dumps(content).encode("ascii")


class ApiError(Exception):
    """An answer other than success: HTTP `status`, and the fields of the error object; `retry_after` in seconds."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, retry_after: float = 0
    ):
        super().__init__(message if len(message) <= _LONGEST else f"{message[:_HALF]} ... {message[-_HALF:]}")
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

    def anthropic_body(self) -> dict[str, Any]:
        """The same for Anthropic's clients."""
        kind = _ANTHROPIC_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        details = {"details": {"error_code": NO_THREADS, "unsupported": []}} if self.code == NO_THREADS else {}
        return {"type": "error", "error": {"type": kind, "message": str(self)} | details, "request_id": None}


def as_api_error(error: Exception) -> ApiError:
    """What a client is told of an exception; the inside of the server stays inside."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Overloaded):
        return ApiError(429, str(error), code="too_many_requests", retry_after=error.retry_after)
    if isinstance(error, Unread):
        return ApiError(408, str(error), code="unread")
    if isinstance(error, UnicodeEncodeError):
        # JSON can spell half of a surrogate pair, which no file or table can hold.
        return ApiError(400, f"half of a surrogate pair is no text: {error.object[:80]!a}", code="invalid_value")
    if isinstance(error, RecursionError):
        return ApiError(400, "the body is nested too deep", code="invalid_value")
    if isinstance(error, EngineStopped):
        return ApiError(503, "the server is shutting down or has failed", code="unavailable")
    return ApiError(500, "the server failed to answer", code="internal_error")


def add_error_handlers(app: FastAPI) -> None:
    """Make every error of `app` leave in the shape that the asked address has."""

    @app.exception_handler(ApiError)
    @app.exception_handler(Overloaded)
    @app.exception_handler(EngineStopped)
    @app.exception_handler(UnicodeEncodeError)
    @app.exception_handler(RecursionError)
    @app.exception_handler(Exception)
    async def _any(request: Request, error: Exception) -> JSONResponse:
        return answer(request.url.path, as_api_error(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        told = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
        if error.status_code == 413:
            told = ApiError(413, error.detail, code="request_too_large")
        if error.status_code == 400:
            # FastAPI reads the body; what is not UTF-8, or nested beyond measure, ends here.
            told = ApiError(400, "the body cannot be read as JSON in UTF-8")
            if "multipart" in request.headers.get("content-type", ""):
                told = ApiError(400, f"the body cannot be read as a form: {error.detail}")
            if packed := request.headers.get("content-encoding"):
                told = ApiError(415, f"Content-Encoding: {packed} is not read; send the body as it is")
        return answer(request.url.path, told, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = error.errors()
        told = _first_problem(problems, error.body)
        if problems[0]["loc"] == ("body",) and problems[0]["type"] != "missing":
            # FastAPI takes a body for JSON only where it is said to be.
            kind = request.headers.get("content-type", "nothing")
            if "json" not in kind:
                told = ApiError(415, f"Content-Type: application/json is needed, not {kind}")
        return answer(request.url.path, told)


def answer(path: str, error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The HTTP answer that tells of an error, in the shape that the address `path` has."""
    headers = dict(headers or {})
    if error.status in (429, 503):
        headers["Retry-After"] = str(error.retry_after)
    anthropic = path.startswith("/v1/messages")
    return AnyJson(error.anthropic_body() if anthropic else error.body(), error.status, headers)


async def refuse(scope: Scope, send: Send, error: ApiError, headers: Mapping[str, str] | None = None) -> None:
    """Answer a request with an error before any of its body is read."""

    async def nothing() -> NoReturn:
        raise AssertionError("an error's answer reads nothing")

    await answer(scope["path"], error, headers)(scope, nothing, send)


def _first_problem(problems: Sequence[Any], body: Any) -> ApiError:
    # Of a union pydantic reports every branch; the one that fits the value best fails deepest, and not by its type.
    alike = [problem for problem in problems if problem["loc"][:2] == problems[0]["loc"][:2]]
    first = max(alike, key=lambda problem: (len(problem["loc"]), not problem["type"].endswith("_type")))
    place = _keys(first["loc"][1:], body, missing=first["type"] == "missing")
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['ctx']['error']}")
    param = place[0] if place else None
    if first["type"] == "extra_forbidden":
        says = f"Unrecognized request argument supplied: {'.'.join(place)}"
        return ApiError(400, says + _RENAMED.get(place[-1], ""), param, "unknown_parameter")
    if first["type"] == "missing" and not place:
        return ApiError(400, "the request has no body")
    message = first["msg"].removeprefix("Value error, ")
    if "UploadFile" in message:
        message = "a text where a file has to be (curl -F file=@NAME)"
    return ApiError(400, f"{'.'.join(place)}: {message}" if place else message, param, "invalid_value")


def _keys(loc: Sequence[str | int], body: Any, missing: bool) -> list[str]:
    """A place in a body of JSON by its keys alone: pydantic names branches of unions between them."""
    if not isinstance(body, dict | list):
        return [str(part) for part in loc]  # of a form, or in the address
    keys = []
    at: Any = body
    for part in loc:
        try:
            at = at[part]
        except (LookupError, TypeError):
            continue
        keys.append(str(part))
    return keys + [str(part) for part in loc[-1:] if missing]


def first_key(place: str) -> str:
    """The first key of a place in a request such as tools[0].function.parameters, also where a message follows it."""
    return re.split(r"[\[:.]", place, maxsplit=1)[0]
