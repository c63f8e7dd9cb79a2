"""POST /v1/completions: going on with a text, or filling in before a `suffix` (Bavarian et al., 2207.14255)."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from troth.model.tokenizer import BLANK_MARKS, Tokenizer
from troth.serve.api.answers import answered, submit, usage
from troth.serve.api.errors import ApiError
from troth.serve.api.logprobs import TokenTexts, completion_logprobs, prompt_logprobs
from troth.serve.api.openai_answers import Completion, CompletionChoice
from troth.serve.api.reading import Part, Reading, generated
from troth.serve.api.schema import CompletionRequest
from troth.serve.api.served import Served, encoded, new_id
from troth.serve.engine.request import Output, Request

_FILL_IN = BLANK_MARKS[:3]


def completion_router(served: Served) -> APIRouter:
    """The completion route over one model."""
    router = APIRouter()

    @router.post("/v1/completions", response_model=Completion, response_model_exclude_unset=True)
    async def create(body: CompletionRequest, http: HttpRequest) -> Response | Completion:
        adapter = served.check_model(body.model)
        characters = sum(len(given) for given in body.prompts if isinstance(given, str))
        found = await encoded(characters, lambda: _prompts(body, served.tokenizer))
        prompts = [served.last_tokens(ids, body.truncate_prompt_tokens, body.limit) for ids in found]
        begins = [
            _beginning(body, served, given, ids) for given, ids in zip(body.prompts, prompts, strict=True)
        ]
        await served.prepare(body.grammar)
        requests = [
            Request(
                tuple(prompt), served.sampling(body.params(choice)), priority=body.priority, adapter=adapter,
                salt=body.cache_salt or "",
            )
            for prompt in prompts
            for choice in range(body.n)
        ]
        readings = [Reading() for _ in requests]
        stream = submit(served.engine, requests, "prompt")
        texts = served.token_texts
        base: dict[str, Any] = {"id": new_id("cmpl"), "object": "text_completion", "model": adapter or served.model_id}
        base["created"] = int(time.time())
        dialect = _CompletionEvents(base, readings, texts, body, prompts, begins)
        if events := await answered(http, stream, requests, readings, dialect if body.stream else None):
            return events
        choices = [
            CompletionChoice(
                index=index,
                text=begins[index // body.n] + reading.text("content"),
                logprobs=completion_logprobs(reading.tokens, texts, 0),
                finish_reason=reading.last and reading.last.finish_reason,
                stop_reason=reading.last and reading.last.stop_reason,
                **_told(body, reading, prompts[index // body.n], texts),
            )
            for index, reading in enumerate(readings)
        ]
        return Completion(**base, choices=choices, usage=usage(readings, body.n))

    return router


class _CompletionEvents:
    """Pieces of all texts as they come; with usage told, every event has the field, null until the last or what it is
    so far."""

    done = "data: [DONE]\n\n"

    def __init__(
        self, base: dict[str, Any], readings: list[Reading], texts: TokenTexts, body: CompletionRequest,
        prompts: list[list[int]], begins: list[str],
    ):  # fmt: skip
        self._told_usage = body.told_usage
        self._base = base | ({} if self._told_usage == "never" else {"usage": None})
        self._readings = readings
        self._texts = texts
        self._choices = body.n
        self._prompts = prompts if body.return_token_ids else None
        self._begins = begins
        self._offsets: dict[int, int] = defaultdict(int)

    def opening(self) -> Iterator[Completion]:
        yield from ()

    def show(self, index: int, output: Output, parts: list[Part]) -> Iterator[Completion]:
        logprobs = completion_logprobs(output.tokens, self._texts, self._offsets[index])
        more: dict[str, Any] = {}
        place, first = index // self._choices, output.output_tokens <= 1
        text = self._begins[place] + output.text if first else output.text
        if self._prompts is not None:
            more["token_ids"] = generated(output.tokens, output)
            if first:
                more["prompt_token_ids"] = self._prompts[place]
        if output.finish_reason:
            more["stop_reason"] = output.stop_reason
        if text or logprobs or more:
            choice = CompletionChoice(
                index=index, text=text, logprobs=logprobs, finish_reason=output.finish_reason, **more
            )
            so_far = {"usage": usage(self._readings, self._choices)} if self._told_usage == "always" else {}
            yield Completion(**(self._base | so_far), choices=[choice])
        if logprobs:
            self._offsets[index] += sum(map(len, logprobs.tokens))

    def closing(self) -> Iterator[Completion]:
        if self._told_usage != "never":
            yield Completion(**(self._base | {"choices": [], "usage": usage(self._readings, self._choices)}))

    def failed(self, error: ApiError) -> Iterator[dict[str, Any]]:
        yield error.body()


def _told(body: CompletionRequest, reading: Reading, prompt: list[int], texts: TokenTexts) -> dict[str, Any]:
    """What was asked for of a choice beyond OpenAI's fields."""
    told: dict[str, Any] = {}
    if body.prompt_logprobs is not None:
        told["prompt_logprobs"] = prompt_logprobs(reading.prompt, texts)
    if body.return_token_ids:
        told |= {"prompt_token_ids": prompt, "token_ids": reading.token_ids}
    return told


def _beginning(body: CompletionRequest, served: Served, given: str | list[int], ids: list[int]) -> str:
    """What a text begins with: with `echo` its prompt as it was given, or, where that was ids or only the last of them
    are kept, as these are spelt. Raises a 400 for an id that is unknown."""
    if not body.echo:
        return ""
    if not isinstance(given, str) or body.truncate_prompt_tokens is not None:
        served.check_tokens(ids, "prompt")
        return served.tokenizer.decode(ids)
    # JSON can spell half of a surrogate pair, for which the tokens have the replacement character.
    return given.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _prompts(body: CompletionRequest, tokenizer: Tokenizer) -> list[list[int]]:
    """Token ids of every prompt of a request. The spelling of a special token is that token, but not in a text that is
    to be filled in."""
    prompt = body.prompt
    if body.suffix is not None:
        if body.echo:
            raise ApiError(400, "echo: a text between two others has no beginning to repeat", "echo", "invalid_value")
        if not isinstance(prompt, str):
            raise ApiError(400, "suffix: the prompt must be one text", "suffix", "invalid_value")
        if any(text not in tokenizer.special for text in _FILL_IN):
            raise ApiError(400, "suffix: this model has no tokens to fill in the middle", "suffix", "invalid_value")
        before, after, middle = (tokenizer.special[text] for text in _FILL_IN)
        begin = [] if tokenizer.begin is None or not body.add_special_tokens else [tokenizer.begin]
        return [[*begin, before, *tokenizer.encode(prompt), after, *tokenizer.encode(body.suffix), middle]]
    encode = tokenizer.encode_raw if body.add_special_tokens else tokenizer.encode_special
    if not body.prompts:
        raise ApiError(400, "prompt: the list is empty", "prompt", "invalid_value")
    return [encode(item) if isinstance(item, str) else item for item in body.prompts]
