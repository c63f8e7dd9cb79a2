"""The input of a batch: JSON lines of requests, checked before any is answered."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from troth.serve.api.body_limit import MOST_VALUES, most_values

MOST_LINES = 50_000
_MOST_ERRORS = 100
_LONGEST_ID = 512


@dataclass(frozen=True)
class Line:
    """A request of a batch; `number` counts lines of the file from 1."""

    number: int
    custom_id: str
    body: dict[str, Any]


class BadLine(ValueError):
    """What is wrong with a line, with OpenAI's code for it and the field."""

    def __init__(self, code: str, message: str, param: str | None = None):
        super().__init__(message)
        self.code = code
        self.param = param


def read_lines(path: Path, endpoint: str, most_bytes: int) -> Iterator[Line]:
    """The requests of a checked file."""
    for number, text in _texts(path, most_bytes):
        yield _line(number, text, endpoint, most_bytes)


def problems(path: Path, endpoint: str, most_bytes: int) -> tuple[int, list[dict[str, Any]]]:
    """How many requests a file has, and what is wrong with it, in the form of a batch's `errors`.

    Lines are held to the same bounds as requests by themselves: reading a long one would keep all others waiting.
    """
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    requests = 0
    for number, text in _texts(path, most_bytes):
        requests += 1
        try:
            line = _line(number, text, endpoint, most_bytes)
            if line.custom_id in seen:
                raise BadLine("duplicate_custom_id", f"custom_id {line.custom_id!r} occurs twice", "custom_id")
            seen.add(line.custom_id)
        except BadLine as error:
            found.append({"code": error.code, "line": number, "message": str(error), "param": error.param})
        if len(found) == _MOST_ERRORS:
            break
        if requests > MOST_LINES:
            found.append(problem("too_many_tasks", f"more than {MOST_LINES:,} requests"))
            break
    if requests == 0:
        found.append(problem("empty_file", "the file has no requests"))
    return requests, found


def _texts(path: Path, most_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty with their numbers, of those beyond the bound a beginning that is beyond it too."""
    with path.open("rb") as file:
        for number in count(1):
            text = rest = file.readline(most_bytes + 1)
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(2**20)
            if not text:
                return
            if len(text) > most_bytes or text.strip():
                yield number, text


def problem(code: str, message: str) -> dict[str, Any]:
    """What is wrong with a batch as a whole, in the form of one of its `errors`."""
    return {"code": code, "line": None, "message": message, "param": None}


def _line(number: int, text: bytes, endpoint: str, most_bytes: int) -> Line:
    if len(text) > most_bytes:
        raise BadLine("request_too_large", f"the line has more than {most_bytes:,} bytes")
    if most_values(text) > MOST_VALUES:
        raise BadLine("request_too_large", f"the line has more than {MOST_VALUES:,} values")
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadLine("invalid_json_line", "the line is not JSON") from error
    if not isinstance(entry, dict):
        raise BadLine("invalid_json_line", "the line is not a JSON object")
    custom_id, body = entry.get("custom_id"), entry.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise BadLine("missing_required_parameter", "custom_id has to be a text", "custom_id")
    if len(custom_id) > _LONGEST_ID:
        raise BadLine("invalid_value", f"custom_id has more than {_LONGEST_ID} characters", "custom_id")
    if entry.get("method") != "POST":
        raise BadLine("invalid_method", "method has to be POST", "method")
    if entry.get("url") != endpoint:
        raise BadLine("mismatched_endpoint", f"url has to be {endpoint}, the batch's endpoint", "url")
    if not isinstance(body, dict):
        raise BadLine("missing_required_parameter", "body has to be an object", "body")
    for key in ("stream", "deferred"):
        if body.get(key):
            raise BadLine("invalid_request", f"{key} is not possible in a batch", f"body.{key}")
    return Line(number, custom_id, body)
