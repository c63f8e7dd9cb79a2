"""POST /v1/embeddings: the mean of a text's last hidden states, at unit length."""

import base64
import math
import struct
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import BaseModel, Field

from troth.serve.api.answers import submit, unless_gone
from troth.serve.api.body import Body
from troth.serve.api.errors import ApiError
from troth.serve.api.served import Served, encoded
from troth.serve.engine.request import Output, Request
from troth.serve.engine.thread import Stream

_MOST_INPUTS = 2048


class EmbeddingRequest(Body):
    """Texts or token ids; `dimensions` keeps the first so many numbers of each vector, `truncate_prompt_tokens` the
    last so many tokens of each text, -1 as many as fit."""

    input: str | list[int] | Annotated[list[str] | list[list[int]], Field(max_length=_MOST_INPUTS)]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1)


class Embedding(BaseModel):
    """A vector, as numbers or as base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens of all inputs."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """The vectors, in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


def embedding_router(served: Served) -> APIRouter:
    """The embedding route over one model."""
    router = APIRouter()

    @router.post("/v1/embeddings")
    async def create(body: EmbeddingRequest, http: HttpRequest) -> EmbeddingList:
        served.check_model(body.model)
        given = [body.input] if isinstance(body.input, str) else body.input
        characters = sum(len(text) for text in given if isinstance(text, str))
        found = await encoded(characters, lambda: _inputs(body, served))
        inputs = [served.last_tokens(ids, body.truncate_prompt_tokens) for ids in found]
        requests = [Request(tuple(ids), pooled=True) for ids in inputs]
        stream = submit(served.engine, requests, "input")
        outputs = await unless_gone(http, _gather(stream))
        tokens = sum(output.prompt_tokens for output in outputs.values())
        data = [
            Embedding(index=index, embedding=_written(_vector(outputs[request.id], body.dimensions), body))
            for index, request in enumerate(requests)
        ]
        usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
        return EmbeddingList(data=data, model=served.model_id, usage=usage)

    return router


def _inputs(body: EmbeddingRequest, served: Served) -> list[list[int]]:
    given: Any = body.input
    if not given:
        raise ApiError(400, "input is empty", "input", "invalid_value")
    if isinstance(given, str):
        return [served.tokenizer.encode_prompt(given)]
    if isinstance(given[0], int):
        return [given]
    return [served.tokenizer.encode_prompt(item) if isinstance(item, str) else item for item in given]


async def _gather(stream: Stream) -> dict[str, Output]:
    with stream:
        return {output.request_id: output async for output in stream}


def _vector(output: Output, dimensions: int | None) -> list[float]:
    """What was asked for of an embedding, at length 1. Raises ApiError where it has fewer dimensions."""
    assert output.embedding is not None
    if dimensions is not None and dimensions > len(output.embedding):
        says = f"dimensions: {dimensions} were asked for, this model has {len(output.embedding)}"
        raise ApiError(400, says, "dimensions", "invalid_value")
    kept = output.embedding[:dimensions]
    length = math.hypot(*kept) or 1.0
    return [value / length for value in kept]


def _written(vector: list[float], body: EmbeddingRequest) -> list[float] | str:
    if body.encoding_format == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
    return vector
