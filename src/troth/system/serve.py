"""[serve]: the engine's limits and the address."""

from pathlib import Path

from pydantic import Field

from troth.system.table import Table


class ServeTable(Table):
    """`max_batch` sequences decode together; a step handles at most `max_step_tokens` prompt tokens; the cache holds
    `cache_tokens` tokens over all sequences.

    A new request gets a 429 where `max_waiting` queue already, or where their prompts would keep it from its first
    token for more than `max_ttft` seconds; replicas are added where it would come after `target_ttft`. On SIGTERM
    answers have `drain_seconds` to end. Bodies are read up to `max_body_bytes`, uploaded files up to
    `max_file_bytes`. `api_keys` is a file that `troth key` writes: with it only who has a key is answered.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    max_batch: int = Field(default=16, gt=0)
    max_step_tokens: int = Field(default=512, gt=0)
    cache_tokens: int = Field(default=65_536, gt=0)
    max_waiting: int = Field(default=256, gt=0)
    max_ttft: float = Field(default=60, gt=0)
    target_ttft: float = Field(default=2, gt=0)
    drain_seconds: float = Field(default=30, ge=0)
    max_body_bytes: int = Field(default=16 * 2**20, gt=0)
    max_file_bytes: int = Field(default=200 * 2**20, gt=0)
    api_keys: Path | None = None
