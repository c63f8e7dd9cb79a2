"""[serve]: the engine's limits and the address."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from troth.system.table import Table


class AutoscalingTable(Table):
    """[serve.autoscaling]: from `min_replicas` to `max_replicas` under Ray Serve, one for each `target_requests` at
    work or waiting (without it `serve.max_batch`), averaged over `look_back_seconds`, and more where a first token
    would come after `target_ttft` seconds. More or fewer are made when they have been wanted for a delay's seconds.
    """

    min_replicas: int = Field(default=1, gt=0)
    max_replicas: int = Field(gt=0)
    target_requests: int | None = Field(default=None, gt=0)
    target_ttft: float = Field(default=2, gt=0)
    look_back_seconds: float = Field(default=15, gt=0)
    upscale_delay_seconds: float = Field(default=5, ge=0)
    downscale_delay_seconds: float = Field(default=60, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> "AutoscalingTable":
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas={self.min_replicas} is beyond max_replicas={self.max_replicas}")
        return self


class ServeTable(Table):
    """`max_batch` sequences decode together; a step handles at most `max_step_tokens` tokens, and beside sequences that
    decode only so many of prompts that it takes about `max_step_ms`, up to four times that where a prompt is late; the
    cache holds `cache_tokens` tokens over all sequences.

    With `deterministic` no sum depends on the batch, so that an answer is the same in any company; that is slower. With
    `enforce_eager` decoding on a GPU does without CUDA graphs, which take memory and, once, some seconds. With
    `speculate`, steps check guesses of the next tokens: up to `draft_tokens` that followed the same three tokens before
    (`ngram`), or one by the model's multi-token prediction (`mtp`).

    `weights` are kept as the folder has them (`auto`: on a CPU in bfloat16 only where its library runs), or in the kind
    that is named: 8 and 4 bit take 8.5 and 4.5 bits a weight. On a CPU experts that are MXFP4, as gpt-oss's, stay so
    unless floats of 16 or 32 bits are asked for. `threads` of a CPU: all that the process may use, unless
    given. By `kv_cache_dtype` keys and values are kept in the weights' floats (`auto`), or in 8 bit with a scale for
    each token and head, which takes half the memory of bfloat16 and a quarter of float32.

    A request's prompt and answer have at most `max_model_len` tokens together, where the model and the cache hold more.
    Chats are written by the Jinja template in the file `chat_template`, in place of the folder's. `aliases` are further
    names that clients may call the model. Pages of `allowed_origins` ("*": all) may ask from within a browser.

    What a request leaves open of how to sample is as the folder's generation_config.json has it (`generation_config`
    `auto`), or as the API's definitions do. `autoscaling` is for `troth serve --replicas`.

    Of answers of the Responses API the newest `stored_responses` are kept, `stored_bytes` in all with what was asked,
    for `stored_days`, in the SQLite file `response_store`, or in memory without it.

    A new request gets a 429 where `max_waiting` queue already, or where their prompts would keep it from its first
    token for more than `max_ttft` seconds. A client that leaves `max_unread` tokens unread loses its answer. On SIGTERM
    answers have `drain_seconds` to end. Bodies are read up to `max_body_bytes`, uploaded files up to `max_file_bytes`.
    `api_keys` is a file that `troth key` writes: with it only who has a key is answered. `files_dir` is a folder for
    files and batches, which are not offered without it; uploads that would give one key more than `files_bytes` in it
    are refused. With `grpc_port` xAI's SDK, which speaks gRPC, is answered there.

    A server listens on `host` and `port`, or on the Unix domain socket `uds`; by TLS with the certificate and key in
    `ssl_certfile` and `ssl_keyfile` (PEM, also in one file).
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    uds: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    grpc_port: int | None = Field(default=None, ge=0, le=65535)
    max_batch: int = Field(default=16, gt=0)
    max_step_tokens: int = Field(default=512, gt=0)
    max_step_ms: float = Field(default=30.0, gt=0)
    cache_tokens: int = Field(default=65_536, gt=0)
    max_model_len: int | None = Field(default=None, gt=1)
    chat_template: Path | None = None
    aliases: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_waiting: int = Field(default=256, gt=0)
    max_ttft: float = Field(default=60, gt=0)
    max_unread: int = Field(default=4096, gt=0)
    drain_seconds: float = Field(default=30, ge=0)
    max_body_bytes: int = Field(default=16 * 2**20, gt=0)
    max_file_bytes: int = Field(default=200 * 2**20, gt=0)
    api_keys: Path | None = None
    files_dir: Path | None = None
    files_bytes: int = Field(default=10 * 2**30, gt=0)
    deterministic: bool = False
    enforce_eager: bool = False
    weights: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto"
    kv_cache_dtype: Literal["auto", "int8", "fp8"] = "auto"
    generation_config: Literal["auto", "none"] = "auto"
    threads: int | None = Field(default=None, gt=0)
    speculate: Literal["none", "ngram", "mtp"] = "none"
    draft_tokens: int = Field(default=4, gt=0)
    response_store: Path | None = None
    stored_responses: int = Field(default=10_000, gt=0)
    stored_bytes: int = Field(default=2**28, gt=0)
    stored_days: float = Field(default=30, gt=0)
    autoscaling: AutoscalingTable | None = None
