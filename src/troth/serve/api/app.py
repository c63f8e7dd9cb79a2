"""The application: routes over one model, whose engine thread starts and stops with it, behind what guards them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import JSONResponse

import troth
from troth.security.keys import Keys
from troth.serve.api.access import Access
from troth.serve.api.authorise import Authorise
from troth.serve.api.body_limit import BodyLimit
from troth.serve.api.chat import chat_router
from troth.serve.api.completions import completion_router
from troth.serve.api.drain import Drain, Draining
from troth.serve.api.errors import add_error_handlers
from troth.serve.api.metrics import Metrics
from troth.serve.api.page import page_router
from troth.serve.api.responses import Model, ModelList
from troth.serve.api.served import Served
from troth.serve.api.traces import tracing_from_environment
from troth.system.serve import ServeTable


def create_app(
    served: Served, table: ServeTable, keys: Keys | None = None, drain: Drain | None = None
) -> FastAPI:
    """An ASGI application that serves one model; /docs describes it.

    `keys` are needed of clients where given; once a `drain` has begun, new requests are refused.
    """
    drain = drain or Drain()
    tracing = tracing_from_environment(served.model_id)
    metrics = Metrics(served.model_id, served.engine)
    served.engine.observer = metrics

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with served.engine:
            yield
        if tracing is not None:
            tracing.close()

    app = FastAPI(title="Troth", version=troth.__version__, lifespan=lifespan)
    # The last one added is the first that a request meets.
    app.add_middleware(BodyLimit, most=table.max_body_bytes, most_of_file=table.max_file_bytes)
    if keys is not None:
        app.add_middleware(Authorise, keys=keys)
    app.add_middleware(Draining, drain=drain)
    app.add_middleware(Access, tracing=tracing)
    add_error_handlers(app)
    app.include_router(metrics.router())
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

    @app.get("/ready")
    async def ready() -> JSONResponse:
        status = "draining" if drain.begun else "ready" if served.engine.alive else "failed"
        return JSONResponse({"status": status}, 200 if status == "ready" else 503)

    return app
