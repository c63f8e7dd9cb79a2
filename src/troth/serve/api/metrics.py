"""Prometheus metrics under vLLM's names, so that its dashboards and the routers that scale by them work as they are."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from troth.serve.api.exchange import Exchange, current_exchange
from troth.serve.engine.request import Output, Request
from troth.serve.engine.thread import EngineThread

# Bounds in seconds, from a cached short prompt on a GPU to a long one on a CPU.
_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640)
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10, 20)
_WHOLE = (0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


@dataclass
class _Course:
    """A request under way: the exchange that it is part of, when it came, how many tokens it can have at most, and when
    its first and last tokens came."""

    exchange: Exchange | None
    came: float
    most: int
    first: float = 0.0
    last: float = 0.0


class Metrics:
    """Follows every request through the engine (an `Observer`); `router` shows the counts at GET /metrics."""

    def __init__(self, model_id: str, engine: EngineThread, context: int):
        self._context = context
        self._registry = CollectorRegistry()
        self._courses: dict[str, _Course] = {}

        def histogram(name: str, says: str, bounds: tuple[float, ...]) -> Histogram:
            found = Histogram(f"vllm:{name}", says, ["model_name"], registry=self._registry, buckets=bounds)
            return found.labels(model_id)

        def counter(name: str, says: str) -> Counter:
            return Counter(f"vllm:{name}", says, ["model_name"], registry=self._registry).labels(model_id)

        self._ttft = histogram("time_to_first_token_seconds", "Time to first token in seconds.", _TTFT)
        self._between = histogram("inter_token_latency_seconds", "Time between tokens in seconds.", _PER_TOKEN)
        self._mean = histogram(
            "request_time_per_output_token_seconds", "Mean time per token behind the first, by request.", _PER_TOKEN
        )
        self._whole = histogram("e2e_request_latency_seconds", "Time from arrival to the last token.", _WHOLE)
        self._queue = histogram("request_queue_time_seconds", "Time from arrival to a place in the batch.", _WHOLE)
        self._prefill = histogram("request_prefill_time_seconds", "Time from there to the first token.", _WHOLE)
        self._decode = histogram("request_decode_time_seconds", "Time from there to the last token.", _WHOLE)
        self._inference = histogram("request_inference_time_seconds", "Time in the batch.", _WHOLE)
        self._prompt = histogram("request_prompt_tokens", "Prompt tokens, by request.", _TOKENS)
        self._generated = histogram("request_generation_tokens", "Generated tokens, by request.", _TOKENS)
        self._longest = histogram(
            "request_max_num_generation_tokens", "The same: each of several choices is a request here.", _TOKENS
        )
        self._most = histogram("request_params_max_tokens", "Most tokens that the text may have, by request.", _TOKENS)
        self._prompt_tokens = counter("prompt_tokens", "Prompt tokens of begun requests.")
        self._output_tokens = counter("generation_tokens", "Generated tokens.")
        self._queries = counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.")
        self._hits = counter("prefix_cache_hits", "Prompt tokens found in the prefix cache.")
        self._success = Counter(
            "vllm:request_success", "Ended requests; those that their client left as `abort`.",
            ["model_name", "finished_reason"], registry=self._registry,
        )  # fmt: skip
        self._model_id = model_id
        for reason in ("stop", "length", "abort"):
            self._success.labels(model_id, reason)
        self._registry.register(_EngineState(model_id, engine))

    def submitted(self, request: Request) -> None:
        room, asked = self._context - len(request.prompt), request.params.max_tokens
        most = room if asked is None else min(room, asked)
        self._courses[request.id] = _Course(current_exchange(), time.monotonic(), most)

    def output(self, output: Output) -> None:
        now, course = time.monotonic(), self._courses[output.request_id]
        if course.first:
            self._between.observe(now - course.last)
        else:
            course.first = now
            self._begun(course, output)
        course.last = now
        # Not those of a prompt that is echoed.
        generated = min(len(output.tokens), output.output_tokens)
        self._output_tokens.inc(generated)
        if course.exchange is not None:
            course.exchange.output_tokens += generated
        if output.finish_reason is not None:
            self._ended(self._courses.pop(output.request_id), output)

    def cancelled(self, request_id: str) -> None:
        self._count_end(self._courses.pop(request_id), "abort")

    def router(self) -> APIRouter:
        """GET /metrics, in Prometheus's text format."""
        router = APIRouter()

        @router.get("/metrics")
        async def metrics() -> Response:
            return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

        return router

    def _begun(self, course: _Course, output: Output) -> None:
        self._ttft.observe(course.first - course.came)
        self._prompt_tokens.inc(output.prompt_tokens)
        self._queries.inc(output.prompt_tokens)
        self._hits.inc(output.cached_tokens)
        if (exchange := course.exchange) is not None:
            exchange.first_token = exchange.first_token or course.first
            exchange.prompt_tokens += output.prompt_tokens
            exchange.cached_tokens += output.cached_tokens

    def _ended(self, course: _Course, output: Output) -> None:
        assert output.finish_reason is not None
        self._whole.observe(course.last - course.came)
        self._queue.observe(output.admitted - course.came)
        self._prefill.observe(course.first - output.admitted)
        self._decode.observe(course.last - course.first)
        self._inference.observe(course.last - output.admitted)
        self._prompt.observe(output.prompt_tokens)
        self._generated.observe(output.output_tokens)
        self._longest.observe(output.output_tokens)
        self._most.observe(course.most)
        if output.output_tokens > 1:
            self._mean.observe((course.last - course.first) / (output.output_tokens - 1))
        self._count_end(course, output.finish_reason)

    def _count_end(self, course: _Course, reason: str) -> None:
        self._success.labels(self._model_id, reason).inc()
        if course.exchange is not None:
            course.exchange.finish_reasons.append(reason)


class _EngineState:
    """What Prometheus reads of the engine at the moment it asks."""

    def __init__(self, model_id: str, engine: EngineThread):
        self._labels = {"model_name": model_id}
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        stats = self._engine.stats
        held = 1 - stats.free_blocks / stats.blocks
        gauges = {
            "num_requests_running": ("Requests in the batch.", stats.running),
            "num_requests_waiting": ("Requests waiting to be processed.", stats.waiting),
            "kv_cache_usage_perc": ("Share of the key-value cache in use; 1 is all of it.", held),
        }
        for name, (says, value) in gauges.items():
            yield _one(GaugeMetricFamily(f"vllm:{name}", says, labels=list(self._labels)), self._labels, value)
        counters = {
            "num_preemptions": ("Times that a request gave up its cache blocks for others.", stats.preemptions),
            "spec_decode_num_draft_tokens": ("Tokens that were drafted.", stats.drafted),
            "spec_decode_num_accepted_tokens": ("Drafted tokens that the model would have written.", stats.accepted),
        }
        for name, (says, value) in counters.items():
            yield _one(CounterMetricFamily(f"vllm:{name}", says, labels=list(self._labels)), self._labels, value)
        labels = self._labels | {"block_size": str(stats.block_size), "num_gpu_blocks": str(stats.blocks)}
        config = GaugeMetricFamily("vllm:cache_config_info", "The cache's shape.", labels=list(labels))
        yield _one(config, labels, 1)


def _one(family: GaugeMetricFamily | CounterMetricFamily, labels: dict[str, str], value: float) -> Metric:
    family.add_metric(list(labels.values()), value)
    return family
