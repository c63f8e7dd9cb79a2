"""A span per request for OpenTelemetry, with the attributes of its GenAI semantic conventions.

Switched on and configured by OpenTelemetry's own variables: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and so on.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from troth.serve.api.exchange import Exchange

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span
    from starlette.types import Scope

_OPERATIONS = {
    "/v1/chat/completions": "chat", "/v1/completions": "text_completion", "/v1/responses": "chat",
    "/v1/messages": "chat", "/v1/embeddings": "embeddings",
}  # fmt: skip


class Tracing:
    """Begins and ends spans; `trace_context` headers of a caller make them part of its trace."""

    def __init__(self, model_id: str, exporter: SpanExporter):
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        import troth

        resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "troth")})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("troth", troth.__version__)
        self._propagator = TraceContextTextMapPropagator()
        self._model_id = model_id

    def begin(self, scope: Scope) -> Span:
        """A server span, named as the conventions have it: the operation and the model, or the HTTP method."""
        from opentelemetry.trace import SpanKind

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        operation = _OPERATIONS.get(scope["path"])
        name = f"{operation} {self._model_id}" if operation else scope["method"]
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        if operation:
            attributes |= {
                "gen_ai.operation.name": operation, "gen_ai.provider.name": "troth",
                "gen_ai.request.model": self._model_id, "gen_ai.response.model": self._model_id,
            }  # fmt: skip
        context = self._propagator.extract(headers)
        return self._tracer.start_span(name, context=context, kind=SpanKind.SERVER, attributes=attributes)

    def end(self, span: Span, exchange: Exchange) -> None:
        """Set down what came of the request."""
        from opentelemetry.trace import StatusCode

        found: dict[str, Any] = {"http.response.status_code": exchange.status, "troth.request.id": exchange.id}
        if exchange.ttft is not None:
            found |= {
                "gen_ai.usage.input_tokens": exchange.prompt_tokens,
                "gen_ai.usage.output_tokens": exchange.output_tokens,
                "gen_ai.usage.cache_read.input_tokens": exchange.cached_tokens,
                "gen_ai.response.finish_reasons": exchange.finish_reasons,
                "gen_ai.latency.time_to_first_token": exchange.ttft,
            }
        span.set_attributes(found)
        if exchange.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def tracing_from_environment(model_id: str) -> Tracing | None:
    """What the OTEL_ variables ask for; None where they ask for nothing.

    Raises ValueError for an exporter that is not known or not installed.
    """
    kind = os.environ.get("OTEL_TRACES_EXPORTER", "otlp" if _endpoint() else "none")
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or kind == "none":
        return None
    try:
        if kind == "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            return Tracing(model_id, ConsoleSpanExporter())
        if kind == "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return Tracing(model_id, OTLPSpanExporter())
    except ImportError as error:
        raise ValueError(f"OTEL_TRACES_EXPORTER={kind}: traces need `pip install 'troth[telemetry]'`") from error
    raise ValueError(f"OTEL_TRACES_EXPORTER={kind}: unknown; known are otlp (over HTTP), console and none")


def _endpoint() -> str | None:
    return os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
