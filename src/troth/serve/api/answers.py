"""From submitted requests to an HTTP answer: gathered whole, or as server-sent events. Either ends with its client."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from fastapi import Request as HttpRequest
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from troth.serve.api.errors import ApiError, as_api_error
from troth.serve.api.exchange import current_exchange
from troth.serve.api.openai_answers import CompletionDetails, PromptDetails, Usage
from troth.serve.api.reading import Part, Reading
from troth.serve.engine.request import Output, PromptTooLong, Request, RequestFailed
from troth.serve.engine.thread import EngineStopped, EngineThread, Stream, Unread

Result = TypeVar("Result")
Event = BaseModel | dict[str, Any]


def usage(readings: Sequence[Reading], choices: int = 1) -> Usage:
    """Tokens of all answers together; the `choices` answers of one prompt share its count.

    Of a prompt's answers the first tells what was cached before the request.
    """
    lasts = [reading.last for reading in readings]
    firsts = [output for output in lasts[::choices] if output is not None]
    prompt = sum(output.prompt_tokens for output in firsts)
    completion = sum(output.output_tokens for output in lasts if output is not None)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptDetails(cached_tokens=sum(output.cached_tokens for output in firsts)),
        completion_tokens_details=CompletionDetails(
            reasoning_tokens=sum(reading.reasoning_tokens for reading in readings)
        ),
    )


def submit(engine: EngineThread, requests: list[Request], param: str) -> Stream:
    """Queue requests; what the engine refuses about them is a 400 about `param`, with OpenAI's code."""
    if (exchange := current_exchange()) and exchange.priority:
        requests = [replace(request, priority=exchange.priority) for request in requests]
    try:
        return engine.submit(requests)
    except ValueError as error:
        code = "context_length_exceeded" if isinstance(error, PromptTooLong) else "invalid_value"
        raise ApiError(400, str(error), param, code) from error


async def _indexed(stream: Stream, requests: list[Request]) -> AsyncIterator[tuple[int, Output]]:
    """Outputs with the index of the request that each belongs to."""
    place = {request.id: index for index, request in enumerate(requests)}
    async for output in stream:
        yield place[output.request_id], output


class Dialect(Protocol):
    """How an answer is told event by event; `done` is what ends the stream."""

    done: str

    def opening(self) -> Iterator[Event]: ...
    def show(self, index: int, output: Output, parts: list[Part]) -> Iterator[Event]: ...
    def closing(self) -> Iterator[Event]: ...
    def failed(self, error: ApiError) -> Iterator[Event]: ...


async def answered(
    http: HttpRequest, stream: Stream, requests: list[Request], readings: Sequence[Reading], dialect: Dialect | None
) -> StreamingResponse | None:
    """Server-sent events in a `dialect`; without one, None once every answer is read to its end."""
    if dialect is not None:
        return _events(stream, requests, readings, dialect)

    async def gather() -> None:
        with stream:
            async for index, output in _indexed(stream, requests):
                readings[index].take(output)

    await unless_gone(http, gather())
    return None


async def unless_gone(http: HttpRequest, work: Awaitable[Result]) -> Result:
    """The result of `work`, which is cancelled when the client disconnects."""

    async def gone() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, "the client has gone")
        return working.result()
    finally:
        working.cancel()
        watching.cancel()


def _events(
    stream: Stream, requests: list[Request], readings: Sequence[Reading], dialect: Dialect
) -> StreamingResponse:
    """Server-sent events of answers that are read while they grow."""

    async def lines() -> AsyncIterator[str]:
        try:
            for event in dialect.opening():
                yield _line(event)
            async for index, output in _indexed(stream, requests):
                for event in dialect.show(index, output, readings[index].take(output)):
                    yield _line(event)
            for event in dialect.closing():
                yield _line(event)
            yield dialect.done
        except (ApiError, EngineStopped, RequestFailed, Unread) as error:
            for event in dialect.failed(as_api_error(error)):
                yield _line(event)

    return _EventResponse(stream, lines())


class _EventResponse(StreamingResponse):
    """Holds the stream itself, because a client may leave before the first event is asked of the generator."""

    def __init__(self, stream: Stream, lines: AsyncIterator[str]):
        # Proxies that buffer would turn the stream into one late answer.
        super().__init__(lines, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._stream:
            await super().__call__(scope, receive, send)


def _line(event: Event) -> str:
    """Events that tell their type in their data are named by it too."""
    data = event.model_dump_json(exclude_unset=True) if isinstance(event, BaseModel) else json.dumps(event)
    name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
    return f"{name}data: {data}\n\n"
