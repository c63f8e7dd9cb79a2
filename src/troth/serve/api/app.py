"""The application: routes over one model, whose engine thread starts and stops with it, behind what guards them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from fastapi import FastAPI
from fastapi.responses import JSONResponse

import troth
from troth.security.keys import Keys
from troth.serve.api.access import Access
from troth.serve.api.authorise import Authorise
from troth.serve.api.batch_runner import BatchRunner
from troth.serve.api.batch_store import BatchStore
from troth.serve.api.batches import batch_router
from troth.serve.api.body_limit import BodyLimit
from troth.serve.api.chat import chat_router
from troth.serve.api.completions import completion_router
from troth.serve.api.deferred import Deferred
from troth.serve.api.drain import Drain, Draining
from troth.serve.api.embeddings import embedding_router
from troth.serve.api.errors import add_error_handlers
from troth.serve.api.file_store import FileStore, open_state
from troth.serve.api.files import file_router
from troth.serve.api.inside import asker
from troth.serve.api.messages import message_router
from troth.serve.api.metrics import Metrics
from troth.serve.api.openai_answers import Model, ModelList
from troth.serve.api.origins import Origins
from troth.serve.api.page import page_router
from troth.serve.api.response_store import ResponseStore
from troth.serve.api.responses import response_router
from troth.serve.api.served import Served
from troth.serve.api.tokenize import tokenize_router
from troth.serve.api.traces import tracing_from_environment
from troth.system.serve import ServeTable


def create_app(served: Served, table: ServeTable, keys: Keys | None = None, drain: Drain | None = None) -> FastAPI:
    """An ASGI application that serves one model; /docs describes it.

    `keys` are needed of clients where given; once a `drain` has begun, new requests are refused.
    """
    drain = drain or Drain()
    tracing = tracing_from_environment(served.model_id)
    metrics = Metrics(served.model_id, served.engine, served.context)
    served.engine.observer = metrics
    store = ResponseStore(
        table.response_store, table.stored_responses, table.stored_bytes, table.stored_days
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with served.engine:
            answering = None if runner is None else asyncio.create_task(runner.run())
            async with _grpc_door(app, served, table):
                yield
            if answering is not None:
                answering.cancel()
        if tracing is not None:
            tracing.close()
        store.close()

    app = FastAPI(title="Troth", version=troth.__version__, lifespan=lifespan)
    # The last one added is the first that a request meets.
    app.add_middleware(BodyLimit, most=table.max_body_bytes, most_of_file=table.max_file_bytes)
    if keys is not None:
        app.add_middleware(Authorise, keys=keys)
    app.add_middleware(Draining, drain=drain)
    if table.allowed_origins:
        app.add_middleware(Origins, origins=table.allowed_origins)
    app.add_middleware(Access, tracing=tracing)
    add_error_handlers(app)
    app.include_router(metrics.router())
    ask = asker(app)
    deferred = Deferred(ask)
    app.include_router(chat_router(served, deferred))
    app.include_router(deferred.router())
    app.include_router(completion_router(served))
    app.include_router(page_router())
    app.include_router(response_router(served, store))
    app.include_router(message_router(served))
    app.include_router(embedding_router(served))
    app.include_router(tokenize_router(served))
    runner = None
    if table.files_dir is not None:
        state = open_state(table.files_dir)
        files, batches = FileStore(table.files_dir, state), BatchStore(state)
        app.include_router(file_router(files, batches, table.files_bytes))
        app.include_router(batch_router(files, batches))
        # Half of the batch stays free of them: others need not wait for a place in it.
        together = max(1, table.max_batch // 2)
        runner = BatchRunner(files, batches, ask, served.engine, drain, together, table.max_body_bytes)
    models_by_name = {
        name: Model(
            id=name, created=served.created, max_model_len=served.context,
            parent=served.model_id if name in served.adapters else None,
        )
        for name in (served.model_id, *served.aliases, *served.adapters)
    }  # fmt: skip

    @app.get("/v1/models")
    async def models() -> ModelList:
        return ModelList(data=list(models_by_name.values()))

    @app.get("/v1/models/{model_id:path}")
    async def one_model(model_id: str) -> Model:
        served.check_model(model_id)
        return models_by_name[model_id]

    @app.head("/health", include_in_schema=False)
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

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready")
    async def ready() -> JSONResponse:
        status = "draining" if drain.begun else "ready" if served.engine.alive else "failed"
        return JSONResponse({"status": status}, 200 if status == "ready" else 503)

    @app.get("/version")
    async def version() -> dict[str, str]:
        return {"version": troth.__version__}

    return app


def _grpc_door(app: FastAPI, served: Served, table: ServeTable) -> AbstractAsyncContextManager[None]:
    if table.grpc_port is None:
        return nullcontext()
    from troth.serve.api.xai.door import grpc_door

    return grpc_door(app, served, table)
