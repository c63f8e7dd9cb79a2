"""[serve]: the engine's limits and the address."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from troth.system.table import Table


class ServeTable(Table):
    """`max_batch` sequences decode together; a step handles at most `max_step_tokens` tokens, and beside sequences that
    decode only so many of prompts that it takes about `max_step_ms`; the cache holds `cache_tokens` tokens over all
    sequences; at most `max_waiting` requests queue before new ones get a 429.

    With `deterministic` no sum depends on the batch, so that an answer is the same in any company; that is slower. With
    `speculate`, steps check guesses of the next tokens: up to `draft_tokens` that followed the same three tokens before
    (`ngram`), or one by the model's multi-token prediction (`mtp`).

    `weights` are kept as the folder has them (`auto`: on a CPU in bfloat16 only where its library runs), or in the kind
    that is named: 8 and 4 bit take 8.5 and 4.5 bits a weight. `threads` of a CPU: all that the process may use, unless
    given.

    Of answers of the Responses API the newest `stored_responses` are kept, for `stored_days`, in the SQLite file
    `response_store`, or in memory without it.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    max_batch: int = Field(default=16, gt=0)
    max_step_tokens: int = Field(default=512, gt=0)
    max_step_ms: float = Field(default=30.0, gt=0)
    cache_tokens: int = Field(default=65_536, gt=0)
    max_waiting: int = Field(default=256, gt=0)
    deterministic: bool = False
    weights: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto"
    threads: int | None = Field(default=None, gt=0)
    speculate: Literal["none", "ngram", "mtp"] = "none"
    draft_tokens: int = Field(default=4, gt=0)
    response_store: Path | None = None
    stored_responses: int = Field(default=10_000, gt=0)
    stored_days: float = Field(default=30, gt=0)
