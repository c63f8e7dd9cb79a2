"""What goes into the engine and what comes out of it. Imports no torch."""

import uuid
from dataclasses import dataclass, field
from typing import Literal

from troth.serve.engine.sampling_params import SamplingParams

FinishReason = Literal["stop", "length"]


class PromptTooLong(ValueError):
    """A prompt has more tokens than fit."""


class RequestFailed(Exception):
    """A request was ended by a fault of its own, which others at work do not notice."""


@dataclass(frozen=True)
class Request:
    """A prompt as token ids, and how to go on from it; `id` names it in outputs and in `cancel`.

    Requests of lower `priority` go first and, where room lacks, make others wait that have begun. `adapter` names the
    LoRA adapter that answers, None the model itself. What is computed of a prompt is shared among requests of one
    `salt` only. A `pooled` one is not gone on from: its one output has an embedding.
    """

    prompt: tuple[int, ...]
    params: SamplingParams = field(default_factory=SamplingParams)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    priority: int = 0
    adapter: str | None = None
    salt: str = ""
    pooled: bool = False


@dataclass(frozen=True)
class SampledToken:
    """A generated token; with `SamplingParams.logprobs` also its log-probability (nats) and the likeliest ones, with
    `SamplingParams.experts` the first choice of each mixture-of-experts layer. `rank` is told of a prompt's: 1 is the
    likeliest."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    experts: tuple[int, ...] = ()
    rank: int | None = None


@dataclass(frozen=True)
class Output:
    """What one step added to one request.

    `text` is safe to show: whole characters, nothing that may still turn out to be a stop string. `prompt_tokens` of
    which `cached_tokens` were found in the cache, and `output_tokens` so far, are counts. `finish_reason` is set on
    the last output of a request, and `stop_reason` where a stop string ended it, or a token that the request named.
    `prompt`, on the first, are its tokens where `SamplingParams.prompt_logprobs` were asked for. `embedding` is the
    mean of the prompt's last hidden states, where that was. The request got its place in the batch when
    it was `admitted` (of `time.monotonic`). `failure`, on the last, says that it ended by a fault of its own.
    """

    request_id: str
    text: str
    tokens: tuple[SampledToken, ...]
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    embedding: tuple[float, ...] | None = None
    prompt: tuple[SampledToken, ...] = ()
    admitted: float = 0.0
    failure: str | None = None


def failed(request: Request, error: Exception, output_tokens: int = 0) -> Output:
    """The last output of a request that an error ended."""
    says = f"{type(error).__name__}: {error}"
    return Output(request.id, "", (), len(request.prompt), output_tokens, 0, "stop", failure=says)


@dataclass(frozen=True)
class EngineStats:
    """Requests in the batch and in the queue; cache blocks in all and those that no request holds; how often a request
    had to give up its blocks; drafts that were checked, and those that the model would have written too.

    `pending_tokens` of prompts are still to be computed, and `prefilled_tokens` have been since the start.
    """

    running: int
    waiting: int
    blocks: int
    free_blocks: int
    block_size: int
    pending_tokens: int
    prefilled_tokens: int
    preemptions: int = 0
    drafted: int = 0
    accepted: int = 0
