"""/v1/batches: many requests from a file, answered when there is time, within a day."""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from troth.serve.api.batch_store import OPEN, Batch, BatchStore
from troth.serve.api.body import Body
from troth.serve.api.errors import ApiError
from troth.serve.api.exchange import current_holder
from troth.serve.api.file_store import FileStore
from troth.serve.api.paging import page
from troth.serve.api.schema import Metadata
from troth.serve.api.served import new_id

_WINDOW_SECONDS = 86_400


class ExpiresAfter(Body):
    """How long a file is kept: from an hour to 30 days."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


class BatchRequest(Body):
    """A file of requests, and the one endpoint that they all go to."""

    input_file_id: str
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


def batch_router(files: FileStore, batches: BatchStore) -> APIRouter:
    """The routes over a store; each sees the batches of the request's key only."""
    router = APIRouter()

    def known(batch_id: str) -> Batch:
        batch = batches.get(batch_id)
        if batch is None or batch.holder != current_holder():
            raise ApiError(404, f"No such batch: {batch_id}", "batch_id", "batch_not_found")
        return batch

    @router.post("/v1/batches")
    async def create(body: BatchRequest) -> dict[str, Any]:
        if files.get(body.input_file_id, current_holder()) is None:
            raise ApiError(404, f"No such file: {body.input_file_id}", "input_file_id", "file_not_found")
        batch = Batch(new_id("batch"), current_holder(), _new(body))
        batch.shown["id"] = batch.id
        batches.put(batch)
        return batch.shown

    @router.get("/v1/batches")
    async def several(after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> dict[str, Any]:
        return page([batch.shown for batch in batches.all(current_holder())], after, limit)

    @router.get("/v1/batches/{batch_id}")
    async def one(batch_id: str) -> dict[str, Any]:
        return known(batch_id).shown

    @router.post("/v1/batches/{batch_id}/cancel")
    async def cancel(batch_id: str) -> dict[str, Any]:
        batch = known(batch_id)
        if batch.status not in OPEN:
            raise ApiError(409, f"{batch_id} is {batch.status} and cannot be cancelled", "batch_id", "invalid_value")
        return (batch if batch.status == "cancelling" else batches.change(batch, "cancelling")).shown

    return router


def _new(body: BatchRequest) -> dict[str, Any]:
    now = int(time.time())
    times = ("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at")
    return {
        "object": "batch", "endpoint": body.endpoint, "errors": None, "input_file_id": body.input_file_id,
        "completion_window": body.completion_window, "status": "validating", "output_file_id": None,
        "error_file_id": None, "created_at": now, "expires_at": now + _WINDOW_SECONDS,
        **dict.fromkeys((*times, "cancelled_at")),
        "request_counts": {"total": 0, "completed": 0, "failed": 0}, "metadata": body.metadata,
        "output_expires_after": body.output_expires_after and body.output_expires_after.model_dump(),
    }  # fmt: skip
