"""POST /v1/chat/completions."""

import time
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from troth.serve.api.answers import answered, submit, unless_gone, usage
from troth.serve.api.chat_schema import ChatRequest
from troth.serve.api.deferred import Deferred
from troth.serve.api.errors import ApiError
from troth.serve.api.logprobs import TokenTexts, chat_logprobs, prompt_logprobs
from troth.serve.api.openai_answers import (
    CalledFunction,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatMessage,
    ChunkChoice,
    Delta,
    FunctionDelta,
    ToolCall,
    ToolCallDelta,
)
from troth.serve.api.question import prompt
from troth.serve.api.reading import Part, Reading, generated
from troth.serve.api.served import Served, new_id
from troth.serve.engine.request import Output


def chat_router(served: Served, deferred: Deferred) -> APIRouter:
    """The chat route over one model."""
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=ChatCompletion, response_model_exclude_unset=True)
    async def create(body: ChatRequest, http: HttpRequest) -> Response | ChatCompletion:
        adapter = served.check_model(body.model)
        if body.search_parameters is not None:
            raise ApiError(410, "search_parameters: live search has ended; offer a tool", "search_parameters")
        if body.deferred:
            return deferred.begin(body)
        asked = await unless_gone(http, prompt(served, body.question(), body.limit))
        params = [served.sampling(body.params(choice)) for choice in range(body.n)]
        requests = [asked.request(one, adapter, body.priority, body.cache_salt or "") for one in params]
        readings = [asked.reading() for _ in requests]
        stream = submit(served.engine, requests, "messages")
        base: dict[str, Any] = {"id": new_id("chatcmpl"), "created": int(time.time())}
        base["model"] = adapter or served.model_id
        dialect = _ChatEvents(base, readings, served.token_texts, body, asked.ids)
        if events := await answered(http, stream, requests, readings, dialect if body.stream else None):
            return events
        choices = [
            ChatChoice(
                index=index,
                message=_message(reading),
                logprobs=chat_logprobs(reading.tokens, served.token_texts),
                finish_reason=reading.finish_reason,
                stop_reason=reading.last and reading.last.stop_reason,
                **({"token_ids": reading.token_ids} if body.return_token_ids else {}),
            )
            for index, reading in enumerate(readings)
        ]
        base["object"] = "chat.completion"
        if body.prompt_logprobs is not None:
            base["prompt_logprobs"] = prompt_logprobs(readings[0].prompt, served.token_texts)
        if body.return_token_ids:
            base["prompt_token_ids"] = asked.ids
        return ChatCompletion(**base, choices=choices, usage=usage(readings, body.n))

    return router


def _message(reading: Reading) -> ChatMessage:
    content, reasoning = reading.text("content"), reading.text("reasoning")
    given: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    if reasoning:
        given["reasoning_content"] = reasoning
    if reading.called:
        given["content"] = content or None
        given["tool_calls"] = [
            ToolCall(id=call.call_id, type="function", function=CalledFunction(name=call.name, arguments=call.text))
            for call in reading.called
        ]
    return ChatMessage(**given)


class _ChatEvents:
    """Chunks of all choices as they come; with usage told, every chunk has the field, null until the last or what it is
    so far."""

    done = "data: [DONE]\n\n"

    def __init__(
        self, base: dict[str, Any], readings: list[Reading], texts: TokenTexts, body: ChatRequest,
        prompt_ids: tuple[int, ...],
    ):  # fmt: skip
        self._told_usage = body.told_usage
        self._base = base | {"object": "chat.completion.chunk"}
        self._base |= {} if self._told_usage == "never" else {"usage": None}
        self._readings = readings
        self._texts = texts
        self._body = body
        self._prompt_ids = prompt_ids
        # Some of what was asked for is told of each token, whether it adds to the text or not.
        self._each_token = body.logprobs or body.experts or body.return_token_ids

    def opening(self) -> Iterator[ChatChunk]:
        for index in range(len(self._readings)):
            chunk = self._chunk(index, Delta(role="assistant", content=""))
            if index == 0 and self._body.return_token_ids:
                chunk.prompt_token_ids = list(self._prompt_ids)
            yield chunk

    def show(self, index: int, output: Output, parts: list[Part]) -> Iterator[ChatChunk]:
        deltas = [_delta(self._readings[index], part) for part in parts]
        if not deltas and (output.finish_reason or self._each_token):
            deltas = [Delta()]
        for place, delta in enumerate(deltas, 1):
            # What tells of the whole output comes with its last part.
            yield self._chunk(index, delta, output if place == len(deltas) else None)

    def closing(self) -> Iterator[ChatChunk]:
        if self._told_usage != "never":
            yield ChatChunk(**(self._base | {"choices": [], "usage": usage(self._readings, len(self._readings))}))

    def failed(self, error: ApiError) -> Iterator[dict[str, Any]]:
        yield error.body()

    def _chunk(self, index: int, delta: Delta, output: Output | None = None) -> ChatChunk:
        more: dict[str, Any] = {}
        if output and self._body.experts:
            more["experts"] = [token.experts for token in output.tokens]
        if output and self._body.return_token_ids:
            more["token_ids"] = generated(output.tokens, output)
        if output and output.finish_reason:
            more["stop_reason"] = output.stop_reason
        choice = ChunkChoice(
            index=index,
            delta=delta,
            logprobs=chat_logprobs(output.tokens, self._texts) if output else None,
            finish_reason=self._readings[index].finish_reason if output and output.finish_reason else None,
            **more,
        )
        so_far = {}
        if self._told_usage == "always" and self._readings[index].last is not None:
            so_far = {"usage": usage(self._readings, len(self._readings))}
        return ChatChunk(**(self._base | so_far), choices=[choice])


def _delta(reading: Reading, part: Part) -> Delta:
    block = part.block
    if block.kind == "reasoning":
        return Delta(reasoning_content=part.text)
    if block.kind == "content":
        return Delta(content=part.text)
    place = reading.called.index(block)
    if part.begins:
        function = FunctionDelta(name=block.name, arguments=part.text)
        return Delta(tool_calls=[ToolCallDelta(index=place, id=block.call_id, type="function", function=function)])
    return Delta(tool_calls=[ToolCallDelta(index=place, function=FunctionDelta(arguments=part.text))])
