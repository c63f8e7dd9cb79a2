"""One chat request to an OpenAI-compatible endpoint, asked again where that may help: after timeouts, broken
connections, 429 and 5xx, with growing pauses or as long as `Retry-After` says."""

import email.utils
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from troth.curate.validate.verifiers.rate_limit import RateLimit

if TYPE_CHECKING:
    import httpx

_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_ASKED = 0.5, 60.0, 600.0
"""Seconds: pauses double from the first to the longest; an endpoint that asks for one is heeded up to the last."""
_LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class Refused(ValueError):
    """The endpoint does not want this request, now or later; `status` is its HTTP status."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Unreachable(ValueError):
    """The endpoint gave no answer in all attempts."""


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how patiently. `key` is sent and shown to nobody else."""

    client: "httpx.Client"
    url: str
    key: str
    limit: RateLimit
    attempts: int

    def ask(self, body: dict[str, Any], tokens: int) -> dict[str, Any]:
        """The answer to a chat request of about so many tokens, its own included.

        Raises Refused where the request itself is the problem, Unreachable after the last attempt.
        """
        import httpx

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        problem = ""
        asked: float | None = None
        for attempt in range(self.attempts):
            if attempt:
                self._rest(attempt, asked)
            self.limit.wait(tokens)
            asked = None
            try:
                response = self.client.post(f"{self.url}/chat/completions", json=body, headers=headers)
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}".removesuffix(": ")
                continue
            if response.status_code == 200:
                try:
                    answer = response.json()
                    answer["choices"][0]["message"]
                except (ValueError, LookupError, TypeError):
                    problem = "an answer that is no chat completion"
                    continue
                used = (answer.get("usage") or {}).get("total_tokens")
                if isinstance(used, int):
                    self.limit.correct(tokens, used)
                return dict(answer)
            problem = f"HTTP {response.status_code}: {_message(response)}"
            if response.status_code not in _LATER:
                raise Refused(response.status_code, f"{self.url}: {problem}")
            asked = _retry_after(response)
            if asked is not None and response.status_code == 429:
                self.limit.pause(asked)
        raise Unreachable(f"{self.url}: no answer in {self.attempts} attempts; the last: {problem}")

    def _rest(self, attempt: int, asked: float | None) -> None:
        if asked is not None:
            time.sleep(asked)
        else:
            longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1))
            time.sleep(longest * random.uniform(0.5, 1))


def _retry_after(response: "httpx.Response") -> float | None:
    """The seconds that an endpoint asks for, written as seconds or as a date (RFC 9110, section 10.2.3)."""
    text = response.headers.get("retry-after", "")
    try:
        return min(_LONGEST_ASKED, max(0.0, float(text)))
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return min(_LONGEST_ASKED, max(0.0, until.timestamp() - time.time()))


def _message(response: "httpx.Response") -> str:
    """What the endpoint says is wrong, in one short line."""
    try:
        error = response.json()["error"]
        text = error["message"] if isinstance(error, dict) else str(error)
    except (ValueError, LookupError, TypeError):
        text = response.text
    return " ".join(text.split())[:200] or "no explanation"
