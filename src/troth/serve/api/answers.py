"""From submitted requests to an HTTP answer: gathered whole, or as server-sent events. Either ends with its client."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import Request as HttpRequest
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from troth.serve.api.errors import ApiError, as_api_error
from troth.serve.api.responses import PromptDetails, Usage
from troth.serve.engine.request import FinishReason, Output, Request, SampledToken
from troth.serve.engine.thread import EngineStopped, EngineThread, Stream, Unread

Result = TypeVar("Result")


@dataclass
class Text:
    """One choice as far as it has come."""

    pieces: list[str] = field(default_factory=list)
    tokens: list[SampledToken] = field(default_factory=list)
    finish_reason: FinishReason = "stop"


@dataclass
class Counts:
    """Tokens of an answer; the choices of one prompt, `choices` each, share its count."""

    choices: int
    _last: dict[int, Output] = field(default_factory=dict)

    def add(self, index: int, output: Output) -> None:
        """Take the counts so far of the choice with this index."""
        self._last[index] = output

    def usage(self) -> Usage:
        """All choices together. Of a prompt's choices the first tells what was cached before the request."""
        firsts = [output for index, output in self._last.items() if index % self.choices == 0]
        prompt = sum(output.prompt_tokens for output in firsts)
        completion = sum(output.output_tokens for output in self._last.values())
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            prompt_tokens_details=PromptDetails(cached_tokens=sum(output.cached_tokens for output in firsts)),
        )


def submit(engine: EngineThread, requests: list[Request], param: str) -> Stream:
    """Queue requests; what the engine refuses about them is a 400 about `param`."""
    try:
        return engine.submit(requests)
    except ValueError as error:
        raise ApiError(400, str(error), param, "invalid_value") from error


async def indexed(stream: Stream, requests: list[Request]) -> AsyncIterator[tuple[int, Output]]:
    """Outputs with the index of the request that each belongs to."""
    place = {request.id: index for index, request in enumerate(requests)}
    async for output in stream:
        yield place[output.request_id], output


async def gather(stream: Stream, requests: list[Request], counts: Counts) -> list[Text]:
    """The finished texts, in the order of the requests."""
    texts = [Text() for _ in requests]
    with stream:
        async for index, output in indexed(stream, requests):
            counts.add(index, output)
            texts[index].pieces.append(output.text)
            texts[index].tokens += output.tokens
            texts[index].finish_reason = output.finish_reason or "stop"
    return texts


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


def events(
    stream: Stream,
    requests: list[Request],
    opening: Callable[[], Iterator[BaseModel]],
    show: Callable[[int, Output], Iterator[BaseModel]],
    closing: Callable[[Counts], BaseModel] | None,
    counts: Counts,
) -> StreamingResponse:
    """Server-sent events: what `opening` gives, what `show` makes of each output, `closing` with the counts, [DONE]."""

    async def lines() -> AsyncIterator[str]:
        try:
            for event in opening():
                yield _line(event)
            async for index, output in indexed(stream, requests):
                counts.add(index, output)
                for event in show(index, output):
                    yield _line(event)
            if closing is not None:
                yield _line(closing(counts))
            yield "data: [DONE]\n\n"
        except (ApiError, EngineStopped, Unread) as error:
            yield f"data: {json.dumps(as_api_error(error).body())}\n\n"

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


def _line(event: BaseModel) -> str:
    return f"data: {event.model_dump_json(exclude_unset=True)}\n\n"
