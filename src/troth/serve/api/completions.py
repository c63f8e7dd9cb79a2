"""POST /v1/completions: going on with a text, or filling in before a `suffix` (Bavarian et al., 2207.14255)."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from troth.model.tokenizer import Tokenizer
from troth.serve.api.answers import Counts, events, gather, submit, unless_gone
from troth.serve.api.errors import ApiError
from troth.serve.api.logprobs import completion_logprobs
from troth.serve.api.responses import Completion, CompletionChoice
from troth.serve.api.schema import CompletionRequest
from troth.serve.api.served import Served, new_id
from troth.serve.engine.request import Output, Request

_FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


def completion_router(served: Served) -> APIRouter:
    """The completion route over one model."""
    router = APIRouter()

    @router.post("/v1/completions", response_model=Completion, response_model_exclude_unset=True)
    async def create(body: CompletionRequest, http: HttpRequest) -> Response | Completion:
        adapter = served.check_model(body.model)
        prompts = _prompts(body, served.tokenizer)
        requests = [
            Request(tuple(prompt), body.params(choice), priority=body.priority, adapter=adapter)
            for prompt in prompts
            for choice in range(body.n)
        ]
        stream = submit(served.engine, requests, "prompt")
        counts = Counts(body.n)
        texts = served.token_texts
        base: dict[str, Any] = {"id": new_id("cmpl"), "object": "text_completion", "model": adapter or served.model_id}
        base["created"] = int(time.time())
        if not body.stream:
            choices = [
                CompletionChoice(
                    index=index,
                    text="".join(text.pieces),
                    logprobs=completion_logprobs(text.tokens, texts, 0),
                    finish_reason=text.finish_reason,
                )
                for index, text in enumerate(await unless_gone(http, gather(stream, requests, counts)))
            ]
            return Completion(**base, choices=choices, usage=counts.usage())

        with_usage = body.stream_options is not None and body.stream_options.include_usage
        if with_usage:
            # Every event then has the field, and it is null until the last.
            base["usage"] = None
        offsets: dict[int, int] = defaultdict(int)

        def show(index: int, output: Output) -> Iterator[Completion]:
            logprobs = completion_logprobs(output.tokens, texts, offsets[index])
            if output.text or output.finish_reason or logprobs:
                choice = CompletionChoice(
                    index=index, text=output.text, logprobs=logprobs, finish_reason=output.finish_reason
                )
                yield Completion(**base, choices=[choice])
            if logprobs:
                offsets[index] += sum(map(len, logprobs.tokens))

        def closing(counts: Counts) -> Completion:
            return Completion(**(base | {"choices": [], "usage": counts.usage()}))

        return events(stream, requests, lambda: iter(()), show, closing if with_usage else None, counts)

    return router


def _prompts(body: CompletionRequest, tokenizer: Tokenizer) -> list[list[int]]:
    """Token ids of every prompt of a request. Special tokens come only from ids: in text their spelling is text."""
    prompt = body.prompt
    if body.suffix is not None:
        if not isinstance(prompt, str):
            raise ApiError(400, "suffix: the prompt must be one text", "suffix", "invalid_value")
        if any(text not in tokenizer.special for text in _FIM):
            raise ApiError(400, "suffix: this model has no tokens to fill in the middle", "suffix", "invalid_value")
        before, after, middle = (tokenizer.special[text] for text in _FIM)
        return [[before, *tokenizer.encode(prompt), after, *tokenizer.encode(body.suffix), middle]]
    if isinstance(prompt, str):
        return [tokenizer.encode(prompt)]
    if not prompt:
        raise ApiError(400, "prompt: the list is empty", "prompt", "invalid_value")
    if isinstance(prompt[0], int):
        return [prompt]
    return [tokenizer.encode(item) if isinstance(item, str) else item for item in prompt]
