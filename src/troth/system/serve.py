"""[serve]: the engine's limits and the address."""

from pathlib import Path

from pydantic import Field

from troth.system.table import Table


class ServeTable(Table):
    """`max_batch` sequences decode together; a step handles at most `max_step_tokens` prompt tokens; the cache holds
    `cache_tokens` tokens over all sequences; at most `max_waiting` requests queue before new ones get a 429.

    Of answers of the Responses API the newest `stored_responses` are kept, for `stored_days`, in the SQLite file
    `response_store`, or in memory without it."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    max_batch: int = Field(default=16, gt=0)
    max_step_tokens: int = Field(default=512, gt=0)
    cache_tokens: int = Field(default=65_536, gt=0)
    max_waiting: int = Field(default=256, gt=0)
    response_store: Path | None = None
    stored_responses: int = Field(default=10_000, gt=0)
    stored_days: float = Field(default=30, gt=0)
