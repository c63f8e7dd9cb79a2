"""/v1/files: uploading, listing, reading and deleting files, for batches."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, UploadFile
from fastapi.responses import FileResponse
from pydantic import ValidationError

from troth.serve.api.batch_store import BatchStore
from troth.serve.api.batches import ExpiresAfter
from troth.serve.api.errors import ApiError
from troth.serve.api.exchange import current_holder
from troth.serve.api.file_store import FileStore, StoredFile
from troth.serve.api.paging import page


def file_router(files: FileStore, batches: BatchStore, most_bytes: int) -> APIRouter:
    """The routes over a store; each sees the files of the request's key only, which may take `most_bytes` in all."""
    router = APIRouter()

    def known(file_id: str) -> StoredFile:
        stored = files.get(file_id, current_holder())
        if stored is None:
            raise ApiError(404, f"No such file: {file_id}", "file_id", "file_not_found")
        return stored

    def delete_expired() -> None:
        for file_id in files.expired():
            if batches.reading(file_id) is None:
                files.delete(file_id)

    @router.post("/v1/files")
    async def upload(
        file: UploadFile, purpose: Annotated[str, Form()],
        anchor: Annotated[str | None, Form(alias="expires_after[anchor]")] = None,
        seconds: Annotated[str | None, Form(alias="expires_after[seconds]")] = None,
    ) -> dict[str, Any]:  # fmt: skip
        after = None if (anchor, seconds) == (None, None) else _expiry(anchor, seconds)
        delete_expired()
        if purpose != "batch":
            raise ApiError(400, f"purpose: {purpose!r} is not supported, only 'batch'", "purpose", "invalid_value")
        held = files.bytes(current_holder())
        if held + (file.size or 0) > most_bytes:
            says = f"your files take {held:,} bytes, and with this one more than the {most_bytes:,} that they may"
            raise ApiError(400, f"{says}; delete some", "file", "storage_limit_exceeded")
        name = file.filename or "upload.jsonl"
        stored = await asyncio.to_thread(files.add, file.file, name, purpose, current_holder(), after)
        return stored.shown()

    @router.get("/v1/files")
    async def several(
        purpose: str | None = None, after: str | None = None, limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000
    ) -> dict[str, Any]:
        return page([stored.shown() for stored in files.all(current_holder(), purpose)], after, limit)

    @router.get("/v1/files/{file_id}")
    async def one(file_id: str) -> dict[str, Any]:
        return known(file_id).shown()

    @router.get("/v1/files/{file_id}/content")
    async def content(file_id: str) -> FileResponse:
        stored = known(file_id)
        return FileResponse(files.path(file_id), media_type="application/octet-stream", filename=stored.filename)

    @router.delete("/v1/files/{file_id}")
    async def delete(file_id: str) -> dict[str, Any]:
        known(file_id)
        if batch_id := batches.reading(file_id):
            says = f"{file_id} is being read by {batch_id}; cancel that first"
            raise ApiError(400, says, "file_id", "file_in_use")
        files.delete(file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    return router


def _expiry(anchor: str | None, seconds: str | None) -> int:
    """Seconds that a file is to stay."""
    try:
        return ExpiresAfter.model_validate({"anchor": anchor, "seconds": seconds}).seconds
    except ValidationError as error:
        first = error.errors()[0]
        says = f"expires_after.{first['loc'][0]}: {first['msg']}"
        raise ApiError(400, says, "expires_after", "invalid_value") from error
