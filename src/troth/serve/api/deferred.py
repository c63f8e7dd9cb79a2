"""Deferred chat completions, as xAI has them: asked now, fetched later by id."""

import asyncio
import json
import time
from collections import OrderedDict
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from troth.serve.api.errors import AnyJson, ApiError
from troth.serve.api.exchange import current_holder
from troth.serve.api.inside import Answer, Ask, Inside
from troth.serve.api.served import new_id

KEPT_SECONDS = 86_400
_MOST_KEPT = 1024
_MOST_OF_A_KEY = 256
_MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class _Kept:
    holder: str | None
    begun: float
    bytes: int
    answering: asyncio.Task[Answer]


class Deferred:
    """Answers under way or waiting to be fetched, for a day at most, in memory; `router` gives them out. One key has no
    more than a quarter of the places, and what is asked and not answered yet takes a bounded part of memory."""

    def __init__(self, ask: Ask):
        self._ask = ask
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def begin(self, body: BaseModel) -> JSONResponse:
        """Ask in the background. Raises ApiError where too many answers are under way or have not been fetched."""
        self._forget_old()
        holder = current_holder()
        asked = body.model_dump(exclude_unset=True, by_alias=True) | {"deferred": False}
        size = len(json.dumps(asked))
        of_key = sum(kept.holder == holder for kept in self._kept.values())
        waiting = sum(kept.bytes for kept in self._kept.values() if not kept.answering.done())
        if len(self._kept) >= _MOST_KEPT:
            raise _full(f"{_MOST_KEPT} deferred answers wait to be fetched")
        if holder is not None and of_key >= _MOST_OF_A_KEY:
            raise _full(f"{_MOST_OF_A_KEY} deferred answers of this key wait to be fetched")
        if waiting + size > _MOST_BYTES:
            raise _full(f"requests of {waiting:,} bytes wait for deferred answers")
        task = asyncio.create_task(self._answer(asked, holder))
        request_id = new_id("deferred")
        self._kept[request_id] = _Kept(holder, time.monotonic(), size, task)
        return JSONResponse({"request_id": request_id})

    def router(self) -> APIRouter:
        """GET /v1/chat/deferred-completion/{request_id}: 202 while it is under way, then the answer."""
        router = APIRouter()

        @router.get("/v1/chat/deferred-completion/{request_id}")
        async def fetch(request_id: str) -> Response:
            self._forget_old()
            kept = self._kept.get(request_id)
            if kept is None or kept.holder != current_holder():
                raise ApiError(404, f"no deferred answer {request_id}; answers are kept for a day", "request_id")
            if not kept.answering.done():
                return Response(status_code=202)
            answer = kept.answering.result()
            return AnyJson(answer.body, answer.status)

        return router

    async def _answer(self, body: dict[str, object], holder: str | None) -> Answer:
        return await self._ask("/v1/chat/completions", body, Inside(holder, priority=0))

    def _forget_old(self) -> None:
        while self._kept:
            request_id, oldest = next(iter(self._kept.items()))
            if time.monotonic() - oldest.begun < KEPT_SECONDS:
                break
            oldest.answering.cancel()
            del self._kept[request_id]


def _full(says: str) -> ApiError:
    return ApiError(429, f"{says}, the most that are kept", "deferred", "too_many_requests", retry_after=60)
