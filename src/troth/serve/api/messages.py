"""POST /v1/messages and /v1/messages/count_tokens, as Anthropic's clients speak."""

import json
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from troth.serve.api.answers import answered, submit, unless_gone
from troth.serve.api.errors import NO_THREADS, ApiError
from troth.serve.api.messages_schema import CountRequest, MessageRequest
from troth.serve.api.question import prompt
from troth.serve.api.reading import Block, Part, Reading
from troth.serve.api.served import Served, new_id
from troth.serve.engine.request import Output

_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def message_router(served: Served) -> APIRouter:
    """The routes over one model."""
    router = APIRouter(prefix="/v1/messages")

    @router.post("", response_model=None)
    async def create(body: MessageRequest, http: HttpRequest) -> Response | dict[str, Any]:
        adapter = served.check_model(body.model)
        if body.thread is not None:
            says = "thread: no conversation is kept here; send all of its messages"
            raise ApiError(400, says, "thread", NO_THREADS)
        asked = await unless_gone(http, prompt(served, body.question(), body.max_tokens))
        requests, readings = [asked.request(served.sampling(body.params()), adapter)], [asked.reading()]
        dialect = _MessageEvents(new_id("msg", "_"), adapter or served.model_id, len(asked.ids), readings[0])
        stream = submit(served.engine, requests, "messages")
        events = await answered(http, stream, requests, readings, dialect if body.stream else None)
        return events or dialect.message()

    @router.post("/count_tokens")
    async def count(body: CountRequest) -> dict[str, int]:
        served.check_model(body.model)
        return {"input_tokens": len((await prompt(served, body.question(), None)).ids)}

    return router


class _MessageEvents:
    """One message, whole or event by event."""

    done = ""

    def __init__(self, message_id: str, model_id: str, prompt_tokens: int, reading: Reading):
        self._base = {
            "id": message_id, "type": "message", "role": "assistant", "model": model_id, "container": None,
            "stop_details": None,
        }  # fmt: skip
        self._prompt_tokens = prompt_tokens
        self._reading = reading
        self._open: Block | None = None

    def message(self) -> dict[str, Any]:
        """The whole message, when the reading has come to its end."""
        blocks = self._reading.blocks or [Block("content", 0)]
        return self._base | self._end() | {"content": [_block(block) for block in blocks], "usage": self._usage()}

    def opening(self) -> Iterator[dict[str, Any]]:
        begun: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": self._usage()}
        yield {"type": "message_start", "message": self._base | begun}

    def show(self, index: int, output: Output, parts: list[Part]) -> Iterator[dict[str, Any]]:
        for part in parts:
            if part.begins:
                yield from self._close()
                self._open = part.block
                begun = Block(part.block.kind, part.block.index, "", part.block.call_id, part.block.name)
                yield {"type": "content_block_start", "index": part.block.index, "content_block": _block(begun)}
            if part.text:
                yield {"type": "content_block_delta", "index": part.block.index, "delta": _delta(part)}

    def closing(self) -> Iterator[dict[str, Any]]:
        yield from self._close()
        yield {"type": "message_delta", "delta": self._end() | {"container": None}, "usage": self._usage()}
        yield {"type": "message_stop"}

    def failed(self, error: ApiError) -> Iterator[dict[str, Any]]:
        yield error.anthropic_body()

    def _close(self) -> Iterator[dict[str, Any]]:
        if self._open is not None:
            if self._open.kind == "reasoning":
                signed = {"type": "signature_delta", "signature": ""}
                yield {"type": "content_block_delta", "index": self._open.index, "delta": signed}
            yield {"type": "content_block_stop", "index": self._open.index}

    def _end(self) -> dict[str, Any]:
        stop = self._reading.last.stop_reason if self._reading.last else None
        reason = "stop_sequence" if stop is not None else _STOPS[self._reading.finish_reason]
        return {"stop_reason": reason, "stop_sequence": stop}

    def _usage(self) -> dict[str, Any]:
        """Tokens so far; those of the prompt that were cached are counted apart."""
        last = self._reading.last
        cached = last.cached_tokens if last else 0
        return {
            "input_tokens": self._prompt_tokens - cached, "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0, "output_tokens": last.output_tokens if last else 0,
            "output_tokens_details": {"thinking_tokens": self._reading.reasoning_tokens},
            "cache_creation": None, "inference_geo": None, "server_tool_use": None, "service_tier": "standard",
        }  # fmt: skip


def _block(block: Block) -> dict[str, Any]:
    if block.kind == "reasoning":
        return {"type": "thinking", "thinking": block.text, "signature": ""}
    if block.kind == "content":
        return {"type": "text", "text": block.text, "citations": None}
    return {
        "type": "tool_use", "id": block.call_id, "name": block.name, "input": _object(block.text),
        "caller": {"type": "direct"},
    }  # fmt: skip


def _object(arguments: str) -> dict[str, Any]:
    """Arguments as an object, empty where a limit of tokens has cut them short."""
    try:
        return dict(json.loads(arguments))
    except (ValueError, RecursionError):
        return {}


def _delta(part: Part) -> dict[str, Any]:
    kind = part.block.kind
    if kind == "reasoning":
        return {"type": "thinking_delta", "thinking": part.text}
    if kind == "content":
        return {"type": "text_delta", "text": part.text}
    return {"type": "input_json_delta", "partial_json": part.text}
