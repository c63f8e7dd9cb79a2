"""A gRPC server beside the HTTP one, for xAI's SDK: chat, deferred chat, models, tokenize.

Each call is put to the application as the HTTP request that it stands for, so that keys, limits, admission, draining,
logs and traces are those of HTTP. What is not offered is answered UNIMPLEMENTED by gRPC itself.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf import empty_pb2
from grpc.aio import ServicerContext as Context
from starlette.types import ASGIApp
from xai_sdk.proto import chat_pb2, deferred_pb2, models_pb2, tokenize_pb2

from troth.serve.api.errors import ApiError
from troth.serve.api.served import Served
from troth.serve.api.xai.answers import Chunks, completion, timestamp
from troth.serve.api.xai.questions import chat_body
from troth.serve.api.xai.within import Reply, asked
from troth.system.serve import ServeTable

_CHAT = "/v1/chat/completions"
# By HTTP status, as google.rpc.Code maps them; 410 is live search, which has ended.
_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED, 404: grpc.StatusCode.NOT_FOUND, 408: grpc.StatusCode.ABORTED,
    410: grpc.StatusCode.UNIMPLEMENTED, 413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED, 499: grpc.StatusCode.CANCELLED, 503: grpc.StatusCode.UNAVAILABLE,
}  # fmt: skip
# Errors within a stream, whose status has been sent, tell themselves by their code.
_STATUS_OF_CODE = {"unavailable": 503, "unread": 408}
_PASSED_ON = frozenset({"authorization", "x-api-key", "x-request-id", "x-grok-conv-id", "traceparent", "tracestate"})
_SECONDS_TO_END = 2


@asynccontextmanager
async def grpc_door(app: ASGIApp, served: Served, table: ServeTable) -> AsyncIterator[None]:
    """Listen on the table's `grpc_port` while the context lasts, by TLS where it has a certificate; messages have at
    most as many bytes as bodies.

    Raises RuntimeError where the port cannot be had.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", table.max_body_bytes),
            # Without this another process could listen on the port, too.
            ("grpc.so_reuseport", 0),
            # The SDK asks every 30 s whether its connection lives; by gRPC's default that would be too often.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ]
    )
    server.add_generic_rpc_handlers(_Door(app, served).handlers())
    address = f"[{table.host}]:{table.grpc_port}" if ":" in table.host else f"{table.host}:{table.grpc_port}"
    if table.ssl_certfile is None:
        server.add_insecure_port(address)
    else:
        key = table.ssl_keyfile or table.ssl_certfile
        pair = key.read_bytes(), table.ssl_certfile.read_bytes()
        server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield
    finally:
        await server.stop(_SECONDS_TO_END)


class _Door:
    def __init__(self, app: ASGIApp, served: Served):
        self._app = app
        self._served = served

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """What is offered, by service and method."""
        question, empty = chat_pb2.GetCompletionsRequest, empty_pb2.Empty
        offered = {
            "xai_api.Chat": {
                "GetCompletion": _unary(self._complete, question),
                "GetCompletionChunk": grpc.unary_stream_rpc_method_handler(
                    self._stream, question.FromString, _to_bytes
                ),
                "StartDeferredCompletion": _unary(self._defer, question),
                "GetDeferredCompletion": _unary(self._fetch, deferred_pb2.GetDeferredRequest),
            },
            "xai_api.Models": {
                "ListLanguageModels": _unary(self._models, empty),
                "GetLanguageModel": _unary(self._model, models_pb2.GetModelRequest),
            },
            "xai_api.Tokenize": {"TokenizeText": _unary(self._tokenize, tokenize_pb2.TokenizeTextRequest)},
        }
        return tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in offered.items())

    async def _complete(
        self, request: chat_pb2.GetCompletionsRequest, context: Context
    ) -> chat_pb2.GetChatCompletionResponse:
        return completion(await self._value(context, "POST", _CHAT, await _body(request, context)))

    async def _stream(self, request: chat_pb2.GetCompletionsRequest, context: Context) -> None:
        streams = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = Chunks()
        async with self._ask(context, "POST", _CHAT, await _body(request, context) | streams) as reply:
            await _begin(context, reply)
            async for event in reply.events():
                if "error" in event:
                    await _abort(context, _STATUS_OF_CODE.get(event["error"]["code"], 500), event, reply)
                if chunk := chunks.take(event):
                    await context.write(chunk)

    async def _defer(
        self, request: chat_pb2.GetCompletionsRequest, context: Context
    ) -> deferred_pb2.StartDeferredResponse:
        body = await _body(request, context) | {"deferred": True}
        return deferred_pb2.StartDeferredResponse(**await self._value(context, "POST", _CHAT, body))

    async def _fetch(
        self, request: deferred_pb2.GetDeferredRequest, context: Context
    ) -> chat_pb2.GetDeferredCompletionResponse:
        answer = await self._value(context, "GET", f"/v1/chat/deferred-completion/{request.request_id}")
        if answer is None:
            return chat_pb2.GetDeferredCompletionResponse(status=deferred_pb2.PENDING)
        return chat_pb2.GetDeferredCompletionResponse(status=deferred_pb2.DONE, response=completion(answer))

    async def _models(self, _: empty_pb2.Empty, context: Context) -> models_pb2.ListLanguageModelsResponse:
        found = await self._value(context, "GET", "/v1/models")
        return models_pb2.ListLanguageModelsResponse(models=[_language_model(model) for model in found["data"]])

    async def _model(self, request: models_pb2.GetModelRequest, context: Context) -> models_pb2.LanguageModel:
        return _language_model(await self._value(context, "GET", f"/v1/models/{request.name}"))

    async def _tokenize(
        self, request: tokenize_pb2.TokenizeTextRequest, context: Context
    ) -> tokenize_pb2.TokenizeTextResponse:
        body = {"model": request.model, "prompt": request.text}
        ids = (await self._value(context, "POST", "/tokenize", body))["tokens"]
        texts = self._served.token_texts
        tokens = [
            tokenize_pb2.Token(token_id=i, string_token=texts.text(i), token_bytes=texts.bytes(i) or b"") for i in ids
        ]
        return tokenize_pb2.TokenizeTextResponse(tokens=tokens, model=request.model)

    async def _value(self, context: Context, method: str, path: str, body: Any = None) -> Any:
        async with self._ask(context, method, path, body) as reply:
            await _begin(context, reply)
            return await reply.value()

    def _ask(self, context: Context, method: str, path: str, body: Any = None) -> AbstractAsyncContextManager[Reply]:
        sent = [(key, value) for key, value in context.invocation_metadata() or () if key in _PASSED_ON]
        return asked(self._app, method, path, sent, body)


def _unary(handler: Any, request: Any) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(handler, request.FromString, _to_bytes)


def _to_bytes(message: Any) -> bytes:
    found: bytes = message.SerializeToString()
    return found


async def _body(request: chat_pb2.GetCompletionsRequest, context: Context) -> dict[str, Any]:
    try:
        return chat_body(request)
    except ApiError as error:
        await context.abort(_STATUS[error.status], str(error))
        raise AssertionError("abort raises") from error


async def _begin(context: Context, reply: Reply) -> None:
    """Go on with an answer, or end the call where it tells of an error."""
    if reply.status >= 400:
        await _abort(context, reply.status, await reply.value(), reply)
    await context.send_initial_metadata([("x-request-id", reply.headers["x-request-id"])])


async def _abort(context: Context, status: int, answer: dict[str, Any], reply: Reply) -> NoReturn:
    told = [(name, value) for name in ("x-request-id", "retry-after") if (value := reply.headers.get(name))]
    await context.abort(_STATUS.get(status, grpc.StatusCode.INTERNAL), answer["error"]["message"], tuple(told))
    raise AssertionError("abort raises")


def _language_model(model: dict[str, Any]) -> models_pb2.LanguageModel:
    return models_pb2.LanguageModel(
        name=model["id"],
        input_modalities=[models_pb2.TEXT],
        output_modalities=[models_pb2.TEXT],
        created=timestamp(model["created"]),
        max_prompt_length=model["max_model_len"],
    )
