"""The application: routes over one model, whose engine thread starts and stops with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import JSONResponse

import troth
from troth.serve.api.chat import chat_router
from troth.serve.api.completions import completion_router
from troth.serve.api.errors import add_error_handlers
from troth.serve.api.page import page_router
from troth.serve.api.responses import Model, ModelList
from troth.serve.api.served import Served


def create_app(served: Served) -> FastAPI:
    """An ASGI application that serves one model; /docs describes it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with served.engine:
            yield

    app = FastAPI(title="Troth", version=troth.__version__, lifespan=lifespan)
    add_error_handlers(app)
    app.include_router(chat_router(served))
    app.include_router(completion_router(served))
    app.include_router(page_router())
    model = Model(id=served.model_id, created=served.created, max_model_len=served.context)

    @app.get("/v1/models")
    async def models() -> ModelList:
        return ModelList(data=[model])

    @app.get("/v1/models/{model_id:path}")
    async def one_model(model_id: str) -> Model:
        served.check_model(model_id)
        return model

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
