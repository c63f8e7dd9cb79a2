"""The Responses API of OpenAI and xAI, as the Open Responses specification writes it down: ask, and ask again."""

import asyncio
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from troth.serve.api.answers import answered, submit, unless_gone
from troth.serve.api.errors import AnyJson, ApiError
from troth.serve.api.exchange import current_holder
from troth.serve.api.question import Question, prompt
from troth.serve.api.response_store import ResponseStore, Stored
from troth.serve.api.responses_events import ResponseEvents
from troth.serve.api.responses_schema import ResponseRequest
from troth.serve.api.served import Served, new_id


def response_router(served: Served, store: ResponseStore) -> APIRouter:
    """The routes over one model and what is kept of its answers."""
    router = APIRouter(prefix="/v1/responses", default_response_class=AnyJson)

    @router.post("", response_model=None)
    async def create(body: ResponseRequest, http: HttpRequest) -> Response | dict[str, Any]:
        adapter = served.check_model(body.model)
        question = await _question(store, body)
        asked = await unless_gone(http, prompt(served, question, body.max_output_tokens))
        params = served.sampling(body.params())
        requests, readings = [asked.request(params, adapter)], [asked.reading()]
        response_id = new_id("resp", "_")
        items = [
            {"id": f"in_{response_id.partition('_')[2]}{i:02d}"} | item.model_dump(exclude_none=True)
            for i, item in enumerate(body.items)
        ]

        holder = current_holder()

        def keep(response: dict[str, Any]) -> None:
            if body.store is not False:
                store.put(holder, items, response)

        named = adapter or served.model_id
        dialect = ResponseEvents(response_id, named, body, params, readings[0], served.token_texts, keep)
        stream = submit(served.engine, requests, "input")
        events = await answered(http, stream, requests, readings, dialect if body.stream else None)
        return events or dialect.finished()

    @router.get("/{response_id}")
    async def retrieve(response_id: str, stream: bool = False) -> dict[str, Any]:
        if stream:
            raise ApiError(400, "stream: events are sent once; what is kept is the whole response", "stream")
        return _stored(store, response_id).response

    @router.delete("/{response_id}")
    async def delete(response_id: str) -> dict[str, Any]:
        if not store.delete(current_holder(), response_id):
            raise _unknown(response_id, 404)
        return {"id": response_id, "object": "response", "deleted": True}

    @router.get("/{response_id}/input_items")
    async def input_items(response_id: str) -> dict[str, Any]:
        items = [_listed(item) for item in reversed(_stored(store, response_id).items)]
        ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {}
        return {"object": "list", "data": items, "has_more": False, **ends}

    @router.post("/input_tokens")
    async def count(body: ResponseRequest) -> dict[str, Any]:
        served.check_model(body.model)
        asked = await prompt(served, await _question(store, body), body.max_output_tokens)
        return {"object": "response.input_tokens", "input_tokens": len(asked.ids)}

    @router.post("/{action}")
    async def other(action: str) -> None:
        raise ApiError(404, f"POST /v1/responses/{action}: Not Found")

    return router


async def _question(store: ResponseStore, body: ResponseRequest) -> Question:
    """What is asked, in a thread where much of it may be read from the store."""
    previous = body.previous_response_id
    if previous is None:
        return body.question([])
    return await asyncio.to_thread(lambda: body.question(_earlier(store, previous)))


def _earlier(store: ResponseStore, response_id: str) -> list[dict[str, Any]]:
    """All items of a conversation."""
    chain = store.chain(current_holder(), response_id)
    if not chain:
        raise _unknown(response_id, 400)
    return [item for stored in chain for item in (*stored.items, *stored.response["output"])]


def _stored(store: ResponseStore, response_id: str) -> Stored:
    stored = store.get(current_holder(), response_id)
    if stored is None:
        raise _unknown(response_id, 404)
    return stored


def _unknown(response_id: str, status: int) -> ApiError:
    """OpenAI answers 404 about a response, and 400 about one to go on from."""
    if status == 404:
        return ApiError(404, f"No response with id '{response_id}' is kept here", "response_id", "not_found")
    return ApiError(
        400, f"No response with id '{response_id}', and all that it goes on from, is kept here",
        "previous_response_id", "previous_response_not_found",
    )  # fmt: skip


def _listed(item: dict[str, Any]) -> dict[str, Any]:
    """An item of the input with its content in parts, as lists of items have it."""
    if item["type"] != "message" or not isinstance(item["content"], str):
        return item
    kind = "output_text" if item["role"] == "assistant" else "input_text"
    annotations: dict[str, Any] = {"annotations": []} if kind == "output_text" else {}
    return item | {"status": "completed", "content": [{"type": kind, "text": item["content"], **annotations}]}
