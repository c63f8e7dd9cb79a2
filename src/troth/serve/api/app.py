"""The application: routes over one model, whose engine thread starts and stops with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import JSONResponse

import troth
from troth.serve.api.chat import chat_router
from troth.serve.api.completions import completion_router
from troth.serve.api.errors import add_error_handlers
from troth.serve.api.messages import message_router
from troth.serve.api.open_responses import response_router
from troth.serve.api.response_store import ResponseStore
from troth.serve.api.responses import Model, ModelList
from troth.serve.api.served import Served
from troth.system.serve import ServeTable


def create_app(served: Served, table: ServeTable) -> FastAPI:
    """An ASGI application that serves one model; /docs describes it."""
    store = ResponseStore(table.response_store, table.stored_responses, table.stored_days)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with served.engine:
            yield
        store.close()

    app = FastAPI(title="Troth", version=troth.__version__, lifespan=lifespan)
    add_error_handlers(app)
    app.include_router(chat_router(served))
    app.include_router(completion_router(served))
    app.include_router(response_router(served, store))
    app.include_router(message_router(served))
    models_by_name = {
        name: Model(
            id=name, created=served.created, max_model_len=served.context,
            parent=None if name == served.model_id else served.model_id,
        )
        for name in (served.model_id, *served.adapters)
    }  # fmt: skip

    @app.get("/v1/models")
    async def models() -> ModelList:
        return ModelList(data=list(models_by_name.values()))

    @app.get("/v1/models/{model_id:path}")
    async def one_model(model_id: str) -> Model:
        served.check_model(model_id)
        return models_by_name[model_id]

    @app.get("/health")
    async def health() -> JSONResponse:
        stats = served.engine.stats
        body = {
            "status": "ok" if served.engine.alive else "failed",
            "running": stats.running,
            "waiting": stats.waiting,
            "cache_blocks": stats.blocks,
            "free_cache_blocks": stats.free_blocks,
        }
        return JSONResponse(body, 200 if served.engine.alive else 503)

    return app
