"""One HTTP request and its answer as logs, metrics and traces see it: times and counts, never what was said."""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Exchange:
    """What is known so far; times are in seconds of `time.monotonic`, token counts are over all its engine requests."""

    id: str
    method: str
    path: str
    began: float = field(default_factory=time.monotonic)
    status: int = 500
    holder: str | None = None
    priority: int = 0
    first_token: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    finish_reasons: list[str] = field(default_factory=list)

    @property
    def ttft(self) -> float | None:
        """Seconds to the first token; None where there was none."""
        return None if self.first_token is None else self.first_token - self.began

    def facts(self) -> dict[str, object]:
        """Fields of a log line."""
        found: dict[str, object] = {
            "request_id": self.id, "method": self.method, "path": self.path, "status": self.status,
            "seconds": round(time.monotonic() - self.began, 4),
        }  # fmt: skip
        if self.holder is not None:
            found["key"] = self.holder
        if self.ttft is not None:
            found |= {
                "ttft_seconds": round(self.ttft, 4), "prompt_tokens": self.prompt_tokens,
                "cached_tokens": self.cached_tokens, "output_tokens": self.output_tokens,
                "finish_reasons": self.finish_reasons,
            }  # fmt: skip
        return found


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def current_exchange() -> Exchange | None:
    """The exchange that the running coroutine works for; None outside of any."""
    return _current.get()


def current_holder() -> str | None:
    """Whose key the running coroutine's request came with; None where none is needed."""
    exchange = _current.get()
    return None if exchange is None else exchange.holder


def set_current(exchange: Exchange) -> None:
    """Make `exchange` the one of this coroutine and what it starts."""
    _current.set(exchange)
