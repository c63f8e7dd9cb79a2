"""POST /v1/chat/completions."""

import time
from collections.abc import Iterator

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from troth.serve.api.answers import Counts, events, gather, submit, unless_gone
from troth.serve.api.errors import ApiError
from troth.serve.api.logprobs import chat_logprobs
from troth.serve.api.responses import ChatChoice, ChatChunk, ChatCompletion, ChatMessage, ChunkChoice, Delta
from troth.serve.api.schema import ChatRequest
from troth.serve.api.served import Served, new_id
from troth.serve.engine.request import Output, Request


def chat_router(served: Served) -> APIRouter:
    """The chat route over one model."""
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=ChatCompletion)
    async def create(body: ChatRequest, http: HttpRequest) -> Response | ChatCompletion:
        served.check_model(body.model)
        prompt = tuple(_encode(served, body))
        requests = [Request(prompt, body.params(choice)) for choice in range(body.n)]
        stream = submit(served.engine, requests, "messages")
        counts = Counts(body.n)
        answer_id, created = new_id("chatcmpl"), int(time.time())
        texts = served.token_texts
        if not body.stream:
            choices = [
                ChatChoice(
                    index=index,
                    message=ChatMessage(content="".join(text.pieces)),
                    logprobs=chat_logprobs(text.tokens, texts),
                    finish_reason=text.finish_reason,
                )
                for index, text in enumerate(await unless_gone(http, gather(stream, requests, counts)))
            ]
            return ChatCompletion(
                id=answer_id, created=created, model=served.model_id, choices=choices, usage=counts.usage()
            )

        with_usage = body.stream_options is not None and body.stream_options.include_usage
        # With usage asked for, every event has the field, and it is null until the last.
        usage = {"usage": None} if with_usage else {}

        def chunk(index: int, delta: Delta, output: Output | None = None) -> ChatChunk:
            choice = ChunkChoice(
                index=index,
                delta=delta,
                logprobs=chat_logprobs(output.tokens, texts) if output else None,
                finish_reason=output.finish_reason if output else None,
                **({"experts": [token.experts for token in output.tokens]} if output and body.experts else {}),
            )
            return ChatChunk(
                id=answer_id, object="chat.completion.chunk", created=created, model=served.model_id,
                choices=[choice], **usage,
            )  # fmt: skip

        def opening() -> Iterator[ChatChunk]:
            for index in range(body.n):
                yield chunk(index, Delta(role="assistant", content=""))

        def show(index: int, output: Output) -> Iterator[ChatChunk]:
            if output.text or output.finish_reason or body.logprobs or body.experts:
                yield chunk(index, Delta(content=output.text) if output.text else Delta(), output)

        def closing(counts: Counts) -> ChatChunk:
            return ChatChunk(
                id=answer_id, object="chat.completion.chunk", created=created, model=served.model_id,
                choices=[], usage=counts.usage(),
            )  # fmt: skip

        return events(stream, requests, opening, show, closing if with_usage else None, counts)

    return router


def _encode(served: Served, body: ChatRequest) -> list[int]:
    if served.template is None:
        raise ApiError(400, f"{served.model_id} has no chat template; use /v1/completions", "messages")
    # OpenAI renamed `system` to `developer`; templates know the first.
    messages = [
        {"role": "system" if message.role == "developer" else message.role, "content": message.text}
        for message in body.messages
    ]
    try:
        return served.template.encode(messages, reasoning_effort=body.reasoning_effort)
    except ValueError as error:
        raise ApiError(400, str(error), "messages", "invalid_value") from error
