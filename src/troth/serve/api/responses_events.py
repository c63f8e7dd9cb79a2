"""An answer in the form of the Responses API: its items, and the events that tell how they grow."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from troth.serve.api.answers import usage
from troth.serve.api.errors import ApiError
from troth.serve.api.logprobs import TokenTexts, chat_logprobs
from troth.serve.api.openai_answers import Usage
from troth.serve.api.reading import Block, Part, Reading
from troth.serve.api.responses_schema import ResponseRequest
from troth.serve.engine.request import Output
from troth.serve.engine.sampling_params import SamplingParams

_PREFIX = {"reasoning": "rs", "content": "msg", "call": "fc"}


class ResponseEvents:
    """One response while it is made; `keep` takes it when it has ended well."""

    done = "data: [DONE]\n\n"

    def __init__(
        self,
        response_id: str,
        model_id: str,
        body: ResponseRequest,
        params: SamplingParams,
        reading: Reading,
        texts: TokenTexts,
        keep: Callable[[dict[str, Any]], None],
    ):
        self._id = response_id
        self._settings = _settings(body, params) | {"model": model_id, "created_at": int(time.time())}
        self._reading = reading
        self._texts = texts
        self._keep = keep
        self._number = -1
        self._open: Block | None = None

    def finished(self) -> dict[str, Any]:
        """The whole response, when the reading has come to its end."""
        if all(block.kind == "reasoning" for block in self._reading.blocks):
            self._reading.blocks.append(Block("content", len(self._reading.blocks)))
        cut = self._reading.finish_reason == "length"
        output = [self._item(block, "completed") for block in self._reading.blocks]
        logprobs = chat_logprobs(self._reading.tokens, self._texts)
        if logprobs is not None:
            message = next((item for item in output if item["type"] == "message"), None)
            if message is not None:
                message["content"][0]["logprobs"] = logprobs.model_dump()["content"]
        if cut and "status" in output[-1]:
            output[-1]["status"] = "incomplete"
        response = self._response("incomplete" if cut else "completed") | {
            "output": output,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "completed_at": None if cut else int(time.time()),
            "usage": _usage(usage([self._reading])),
        }
        self._keep(response)
        return response

    def opening(self) -> Iterator[dict[str, Any]]:
        response = self._response("in_progress")
        yield self._event("response.created", response=response)
        yield self._event("response.in_progress", response=response)

    def show(self, index: int, output: Output, parts: list[Part]) -> Iterator[dict[str, Any]]:
        for part in parts:
            if part.begins:
                yield from self._end()
                yield from self._begin(part.block)
            if part.text:
                yield self._delta(part)

    def closing(self) -> Iterator[dict[str, Any]]:
        yield from self._end()
        known = len(self._reading.blocks)
        response = self.finished()
        for block in self._reading.blocks[known:]:
            yield from self._begin(block)
            yield from self._end()
        yield self._event(f"response.{response['status']}", response=response)

    def failed(self, error: ApiError) -> Iterator[dict[str, Any]]:
        told = {"code": error.code or error.type, "message": str(error)}
        yield self._event("response.failed", response=self._response("failed") | {"error": told})

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}

    def _part_event(self, kind: str, block: Block, **fields: Any) -> dict[str, Any]:
        place = {} if block.kind == "call" else {"content_index": 0}
        return self._event(kind, item_id=self._item_id(block), output_index=block.index, **place, **fields)

    def _begin(self, block: Block) -> Iterator[dict[str, Any]]:
        self._open = block
        item = self._item(Block(block.kind, block.index, "", block.call_id, block.name), "in_progress")
        if block.kind != "call":
            item["content"] = []
        yield self._event("response.output_item.added", output_index=block.index, item=item)
        if block.kind != "call":
            yield self._part_event("response.content_part.added", block, part=_content(block, ""))

    def _delta(self, part: Part) -> dict[str, Any]:
        block = part.block
        if block.kind == "call":
            return self._part_event("response.function_call_arguments.delta", block, delta=part.text)
        if block.kind == "reasoning":
            return self._part_event("response.reasoning_text.delta", block, delta=part.text)
        return self._part_event("response.output_text.delta", block, delta=part.text, logprobs=[])

    def _end(self) -> Iterator[dict[str, Any]]:
        block, self._open = self._open, None
        if block is None:
            return
        if block.kind == "call":
            yield self._part_event("response.function_call_arguments.done", block, arguments=block.text)
        else:
            if block.kind == "reasoning":
                yield self._part_event("response.reasoning_text.done", block, text=block.text)
            else:
                yield self._part_event("response.output_text.done", block, text=block.text, logprobs=[])
            yield self._part_event("response.content_part.done", block, part=_content(block, block.text))
        yield self._event(
            "response.output_item.done", output_index=block.index, item=self._item(block, "completed")
        )

    def _item_id(self, block: Block) -> str:
        return f"{_PREFIX[block.kind]}_{self._id.partition('_')[2]}{block.index:02d}"

    def _item(self, block: Block, status: str) -> dict[str, Any]:
        item_id = self._item_id(block)
        if block.kind == "call":
            called = {"call_id": block.call_id, "name": block.name, "arguments": block.text}
            return {"type": "function_call", "id": item_id, "status": status} | called
        content = [_content(block, block.text)]
        if block.kind == "reasoning":
            return {"type": "reasoning", "id": item_id, "summary": [], "content": content}
        return {"type": "message", "id": item_id, "status": status, "role": "assistant", "content": content}

    def _response(self, status: str) -> dict[str, Any]:
        return {
            "id": self._id, "object": "response", "status": status, "completed_at": None, "output": [],
            "incomplete_details": None, "error": None, "usage": None, **self._settings,
        }  # fmt: skip


def _content(block: Block, text: str) -> dict[str, Any]:
    if block.kind == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _settings(body: ResponseRequest, params: SamplingParams) -> dict[str, Any]:
    """What was asked for, with the defaults of what was not."""
    text, reasoning, choice = body.text, body.reasoning, body.tool_choice
    form = {"type": "text"} if text is None else text.format.model_dump(by_alias=True)
    chosen = choice.model_dump() if isinstance(choice, BaseModel) else choice or "auto"
    return {
        "previous_response_id": body.previous_response_id, "instructions": body.instructions,
        "tools": [given.model_dump() | {"strict": given.strict is not False} for given in body.tools or ()],
        "tool_choice": chosen, "parallel_tool_calls": body.parallel_tool_calls is not False,
        "truncation": body.truncation or "disabled", "text": {"format": form},
        "temperature": params.temperature, "top_p": params.top_p,
        "presence_penalty": params.presence_penalty, "frequency_penalty": params.frequency_penalty,
        "top_logprobs": body.top_logprobs or 0,
        "reasoning": {"effort": reasoning and reasoning.effort, "summary": reasoning and reasoning.summary},
        "max_output_tokens": body.max_output_tokens, "max_tool_calls": body.max_tool_calls,
        "store": body.store is not False, "background": False, "service_tier": "default",
        "metadata": body.metadata or {}, "user": body.user, "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
    }  # fmt: skip


def _usage(counts: Usage) -> dict[str, Any]:
    return {
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": counts.prompt_tokens_details.cached_tokens},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.completion_tokens_details.reasoning_tokens},
        "total_tokens": counts.total_tokens,
    }
