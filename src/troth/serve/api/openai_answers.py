"""Answers of the OpenAI API, whole and in stream events."""

from typing import Any, Literal

from pydantic import BaseModel

from troth.serve.engine.request import FinishReason

ChatFinish = FinishReason | Literal["tool_calls"]
StopReason = str | int | None
"""vLLM's field: the stop string that ended a text, or the token, where the request named it."""


class PromptDetails(BaseModel):
    """Prompt tokens whose keys and values were found in the cache."""

    cached_tokens: int


class CompletionDetails(BaseModel):
    """Generated tokens that are reasoning."""

    reasoning_tokens: int


class Usage(BaseModel):
    """Token counts of one answer over all its choices; each prompt counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class PromptLogprob(BaseModel):
    """What a token of a prompt, or another in its place, was worth; of `rank` 1 is the likeliest."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[int, PromptLogprob] | None]
"""By token id, of each token of a prompt; of the first, which follows nothing, nothing is known."""


class TopLogprob(BaseModel):
    """A token as text and bytes with its log-probability in nats; bytes are None for special tokens."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A generated token and the likeliest ones at its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Log-probabilities of an answer's tokens."""

    content: list[TokenLogprob]
    refusal: None = None


class CalledFunction(BaseModel):
    """A function by name, and arguments for it as JSON text."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A call that the model asks for."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(BaseModel):
    """The answer; `content` is None where it consists of calls."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    annotations: list[Any] = []
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(BaseModel):
    """One of `n` answers."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinish
    stop_reason: StopReason
    token_ids: list[int] | None = None


class ChatCompletion(BaseModel):
    """The whole answer to a chat request; `created` is in seconds since 1970."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None


class FunctionDelta(BaseModel):
    """What an event adds to a called function; the name comes whole."""

    name: str | None = None
    arguments: str


class ToolCallDelta(BaseModel):
    """What an event adds to the `index`-th call; `id` and `type` come with the first."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class Delta(BaseModel):
    """What an event adds to a message; only fields that are set are sent."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(BaseModel):
    """What an event adds to one choice. `experts`, where asked for, has a list for each token: the expert that came
    first in each mixture-of-experts layer."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinish | None
    stop_reason: StopReason = None
    experts: list[tuple[int, ...]] | None = None
    token_ids: list[int] | None = None


class ChatChunk(BaseModel):
    """One event of a streamed chat answer."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    prompt_token_ids: list[int] | None = None


class CompletionLogprobs(BaseModel):
    """Parallel lists, one entry a token; `text_offset` is where its text begins, in characters of the answer."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One of the texts; prompts come one after the other, each with its `n` texts."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: StopReason = None
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None
    token_ids: list[int] | None = None


class Completion(BaseModel):
    """A whole answer to a completion request, or one event of a streamed one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class Model(BaseModel):
    """A model that can be asked for; `max_model_len` is prompt and answer together, in tokens, and `parent` the model
    that an adapter belongs to."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "troth"
    max_model_len: int
    parent: str | None = None


class ModelList(BaseModel):
    """All models of this server."""

    object: Literal["list"] = "list"
    data: list[Model]
