"""A server as those who run it see it: drain, keys, metrics, logs, traces, and clients that behave badly."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import openai
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from .conftest import ServeProcess, wait_until

Serve = Callable[..., AbstractContextManager[ServeProcess]]
TROTH = [sys.executable, "-c", "from troth.cli.main import main; main()"]
LONG = {"prompt": "A bird", "max_tokens": 4000, "ignore_eos": True, "stream": True}
STEADY = {"ignore_eos": True}
SHORT = {"prompt": "A bird", "max_tokens": 3, "ignore_eos": True}


class Collector(BaseHTTPRequestHandler):
    """Takes spans as an OpenTelemetry collector does."""

    spans: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        self.spans += [span for resource in request.resource_spans for s in resource.scope_spans for span in s.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def process(serve_process: Serve) -> Iterator[ServeProcess]:
    """A server with small limits that logs as JSON and traces to `Collector`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_address[1]}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        limits = ("--set", "serve.max_unread=64", "--set", "serve.max_body_bytes=100000")
        with serve_process(*limits, "--log-format", "json", **environment) as running:
            yield running
        collector.shutdown()


def samples(url: str) -> dict[str, float]:
    """Metrics by name and, where it has one, the reason or bound."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    found = {}
    for sample in (sample for family in families for sample in family.samples):
        assert sample.labels["model_name"] == "tiny"
        found[sample.name + sample.labels.get("finished_reason", "") + sample.labels.get("le", "")] = sample.value
    return found


def raw(process: ServeProcess, receive_buffer: int | None = None) -> socket.socket:
    """A connection to a server."""
    url = httpx.URL(process.url)
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(20)
    connection.connect((url.host, url.port))
    return connection


def posted(path: str, body: Any) -> bytes:
    """An HTTP request as it goes over the wire."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: troth\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def test_what_a_server_says_of_itself(process: ServeProcess):
    facts = process.facts
    assert facts["model"] == "tiny"
    assert (facts["context_tokens"], facts["cache_tokens"]) == (4096, 8192)
    # One layer keeps all tokens, three keep windows: 16 sequences' of 3 blocks, a step's 512 tokens, a quarter.
    windows = 16 * (16 * 3 + 32 + 128)
    assert facts["cache_bytes"] == (8192 + 3 * windows) * 2 * 2 * 16 * 4


def test_sigterm_lets_streams_end_and_refuses_what_is_new(serve_process: Serve):
    with serve_process() as process, httpx.Client(base_url=process.url, timeout=30) as client:
        assert client.get("/ready").json() == {"status": "ready"}
        with client.stream("POST", "/v1/completions", json=LONG | {"max_tokens": 200}) as stream:
            lines = stream.iter_lines()
            # Another keeps the server draining, however late this process comes to look.
            with client.stream("POST", "/v1/completions", json=LONG) as longer:
                held = longer.iter_lines()  # dropped, it would close the connection
                next(held)
                next(lines)
                process.process.send_signal(signal.SIGTERM)
                wait_until(lambda: httpx.get(f"{process.url}/ready").status_code == 503)
                assert httpx.get(f"{process.url}/ready").json() == {"status": "draining"}
                assert httpx.get(f"{process.url}/health").status_code == 200
                refused = httpx.post(f"{process.url}/v1/completions", json=SHORT)
                assert refused.status_code == 503
                assert int(refused.headers["retry-after"]) >= 1
                assert refused.json()["error"]["code"] == "unavailable"
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert process.process.wait(timeout=60) == 0
        assert "leaked" not in process.log.read_text(), "libraries find all of theirs gone"


@pytest.mark.slow
def test_a_drain_is_bounded_and_says_so_to_streams(serve_process: Serve):
    with (
        serve_process("--set", "serve.drain_seconds=0.2", "--set", "serve.max_step_tokens=1") as process,
        httpx.stream("POST", f"{process.url}/v1/completions", json=LONG, timeout=30) as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        process.process.send_signal(signal.SIGTERM)
        last = [line for line in lines if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "unavailable"
        assert process.process.wait(timeout=60) == 0


def test_metrics_have_the_names_of_vllm_and_count(server: str, client: openai.OpenAI):
    before = samples(server)
    client.completions.create(model="tiny", prompt="A bird", max_tokens=5, extra_body=STEADY)
    after = samples(server)
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert grown["vllm:generation_tokens_total"] == 5
    assert grown["vllm:prompt_tokens_total"] == grown["vllm:prefix_cache_queries_total"] > 0
    assert grown["vllm:request_success_totallength"] == 1
    counts = {
        "time_to_first_token_seconds": 1, "inter_token_latency_seconds": 4, "e2e_request_latency_seconds": 1,
        "request_time_per_output_token_seconds": 1, "request_prompt_tokens": 1, "request_generation_tokens": 1,
        "request_queue_time_seconds": 1, "request_prefill_time_seconds": 1, "request_decode_time_seconds": 1,
        "request_inference_time_seconds": 1, "request_params_max_tokens": 1, "request_max_num_generation_tokens": 1,
    }  # fmt: skip
    assert {name: grown[f"vllm:{name}_count"] for name in counts} == counts
    assert grown["vllm:time_to_first_token_seconds_sum"] < grown["vllm:e2e_request_latency_seconds_sum"]
    assert grown["vllm:request_params_max_tokens_sum"] == grown["vllm:request_max_num_generation_tokens_sum"] == 5
    parts = [grown[f"vllm:request_{part}_time_seconds_sum"] for part in ("queue", "prefill", "decode")]
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(grown["vllm:e2e_request_latency_seconds_sum"])
    assert sum(parts[1:]) == pytest.approx(grown["vllm:request_inference_time_seconds_sum"])
    for unbounded in (None, 10**400):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "A"}], "max_tokens": unbounded, "seed": 1}
        answer = httpx.post(f"{server}/v1/chat/completions", json=body | {"stop": list("aeiou ")}).json()
        before, after = after, samples(server)
        most = after["vllm:request_params_max_tokens_sum"] - before["vllm:request_params_max_tokens_sum"]
        assert most == 4096 - answer["usage"]["prompt_tokens"]
    gauges = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "num_preemptions_total")
    assert [after[f"vllm:{name}"] for name in gauges[:3]] == [0, 0, 0]
    assert after["vllm:num_preemptions_total"] == 0


def test_the_page_lists_all_metrics(server: str):
    text = (Path(__file__).parents[2] / "docs/serving/operations.md").read_text(encoding="utf-8")
    told = {name for row in re.findall(r"^\| `vllm:.*", text, re.MULTILINE) for name in re.findall(r"`(vllm:\w+)", row)}
    types = re.findall(r"^# TYPE (\S+)", httpx.get(f"{server}/metrics").text, re.MULTILINE)
    assert told == {name for name in types if not name.endswith("_created")}


def test_metrics_of_what_runs_and_of_who_leaves(server: str, client: openai.OpenAI):
    before = samples(server)
    body = {"model": "tiny", "prompt": "A bird", "max_tokens": 4000, "stream": True}
    with client.completions.create(**body, extra_body=STEADY) as stream:
        next(iter(stream))
        wait_until(lambda: samples(server)["vllm:num_requests_running"] == 1)
        assert 0 < samples(server)["vllm:kv_cache_usage_perc"] < 1
    aborted = "vllm:request_success_totalabort"
    wait_until(lambda: samples(server)[aborted] == before[aborted] + 1)


def test_keys_are_needed_once_given(serve_process: Serve, tmp_path: Path):
    file = tmp_path / "keys.jsonl"

    def troth_key(*arguments: str) -> str:
        return subprocess.run([*TROTH, "key", str(file), *arguments], capture_output=True, text=True, check=True).stdout

    ada = troth_key("ada").strip()
    assert ada not in file.read_text()
    options = ["--set", f"serve.api_keys={file}", "--log-format", "json"]
    with serve_process(*options, TROTH_API_KEY="open-sesame") as process:

        def status(path: str = "/v1/models", **headers: str) -> int:
            return httpx.get(f"{process.url}{path}", headers=headers).status_code

        assert [status(path) for path in ("/health", "/ready", "/metrics")] == [200] * 3
        assert [status(path) for path in ("/v1/models", "/docs", "/v1/nothing", "/tokenize")] == [401] * 4
        assert [status(Authorization=f"Bearer {key}") for key in (ada, "open-sesame")] == [200] * 2
        assert [status(**{"x-api-key": key}) for key in (ada, "open-sesame", ada + "x", "")] == [200, 200, 401, 401]
        wrong = openai.OpenAI(base_url=f"{process.url}/v1", api_key="guess", max_retries=0)
        with pytest.raises(openai.AuthenticationError) as refused:
            wrong.models.list()
        assert refused.value.body["code"] == "invalid_api_key"
        anthropic = httpx.post(f"{process.url}/v1/messages", json={}).json()
        assert (anthropic["type"], anthropic["error"]["type"]) == ("error", "authentication_error")
        troth_key("ada", "--revoke")
        assert status(Authorization=f"Bearer {ada}") == 401, "at once, without a restart"
        bob = json.loads(troth_key("bob", "--json"))["key"]
        assert status(Authorization=f"Bearer {bob}") == 200

        file.rename(tmp_path / "elsewhere")
        assert status(Authorization=f"Bearer {bob}") == 503
        (tmp_path / "elsewhere").rename(file)
        assert status(Authorization=f"Bearer {bob}") == 200

        def holders() -> set[str | None]:
            return {json.loads(line).get("key") for line in process.log.read_text().splitlines()}

        # A line is written once its answer is out.
        wait_until(lambda: holders() >= {"ada", "bob", "default", None})
        assert not any(key in process.log.read_text() for key in (ada, bob, "open-sesame", "guess"))


def test_logs_are_json_with_ids_and_counts_but_without_words(process: ServeProcess):
    body = {"prompt": "a most secret word", "max_tokens": 3, "ignore_eos": True}
    given = httpx.post(f"{process.url}/v1/completions", json=body, headers={"x-request-id": "one-7"})
    made = httpx.get(f"{process.url}/v1/models", headers={"x-request-id": "no spaces allowed"})
    assert given.headers["x-request-id"] == "one-7"
    assert len(made.headers["x-request-id"]) == 32

    def lines(request_id: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in process.log.read_text().splitlines()]
        return [line for line in found if line["request_id"] == request_id]

    wait_until(lambda: lines(made.headers["x-request-id"]) != [])
    [line] = lines("one-7")
    facts = {"method": "POST", "path": "/v1/completions", "status": 200, "output_tokens": 3, "level": "info"}
    assert line.items() >= facts.items()
    assert 0 < line["ttft_seconds"] < line["seconds"]
    assert line["finish_reasons"] == ["length"]
    assert "secret" not in process.log.read_text()


def test_a_span_for_each_request_reaches_the_collector(process: ServeProcess):
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    httpx.post(f"{process.url}/v1/completions", json=SHORT, headers=headers).raise_for_status()
    # Part of the caller's trace.
    wait_until(lambda: any(span.trace_id.hex() == trace for span in Collector.spans))
    [span] = (span for span in Collector.spans if span.trace_id.hex() == trace)
    assert span.name == "text_completion tiny"
    values = {pair.key: pair.value for pair in span.attributes}
    assert values["gen_ai.operation.name"].string_value == "text_completion"
    assert values["gen_ai.usage.output_tokens"].int_value == 3
    assert values["gen_ai.usage.input_tokens"].int_value > 0
    assert values["gen_ai.response.finish_reasons"].array_value.values[0].string_value == "length"
    assert not any("A bird" in str(value) for value in values.values())


def test_a_client_that_does_not_read_loses_its_answer_and_others_go_on(process: ServeProcess):
    messages = [{"role": "user", "content": "Where there is smoke?"}]
    body = {
        "model": "tiny", "messages": messages, "n": 2,
        "max_tokens": 4000, "ignore_eos": True, "stream": True, "logprobs": True,
        "top_logprobs": 20,
    }  # fmt: skip
    prompts, made, aborted = (
        f"vllm:{name}" for name in ("prompt_tokens_total", "generation_tokens_total", "request_success_totalabort")
    )
    before = samples(process.url)
    with raw(process, receive_buffer=4096) as idle:
        idle.sendall(posted("/v1/chat/completions", body))
        # Counts only grow; a look at what runs now can come when the answer is lost already.
        wait_until(lambda: samples(process.url)[prompts] > before[prompts])
        answer = httpx.post(f"{process.url}/v1/completions", json=SHORT, timeout=20)
        assert answer.json()["usage"]["completion_tokens"] == 3
        wait_until(lambda: samples(process.url)[aborted] == before[aborted] + 2, 60)
        wait_until(process.free)
        assert samples(process.url)[made] < before[made] + 4_000, "long before the 8,000 tokens are there"


def test_a_half_closed_connection_costs_nothing_more(process: ServeProcess):
    with raw(process) as half:
        half.sendall(posted("/v1/completions", LONG))
        assert half.recv(100).startswith(b"HTTP/1.1 200")
        half.shutdown(socket.SHUT_WR)
        wait_until(process.free)


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": "\xff\xfe"}',
        b'{"prompt": "cut',
        b"[" * 50_000,
        b'{"prompt": "x", "temperature": NaN}',
        b"",
        b"null",
        b'{"prompt": {"a": 1}}',
    ],
    ids=["not UTF-8", "cut off", "too deep", "NaN", "empty", "null", "wrong type"],
)
def test_what_cannot_be_read_is_a_400(process: ServeProcess, body: bytes):
    answer = httpx.post(f"{process.url}/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_lone_surrogates_are_text_that_is_not_text(process: ServeProcess):
    body = b'{"prompt": "a \\ud800 b", "max_tokens": 3, "ignore_eos": true}'
    answer = httpx.post(f"{process.url}/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.json()["usage"]["completion_tokens"] == 3


def test_giant_bodies_are_refused_unread(process: ServeProcess):
    with raw(process) as declared:
        declared.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: troth\r\nContent-Length: 100001\r\n\r\n")
        assert declared.recv(100).startswith(b"HTTP/1.1 413")

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 10**9:
            sent += 20_000
            yield b" " * 20_000

    sent = 0
    try:
        answer = httpx.post(f"{process.url}/v1/completions", content=endless(), timeout=20)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
    except httpx.TransportError:
        # The server closes while the client still sends, which some clients meet as a reset.
        pass
    assert sent < 10**8
    assert httpx.post(f"{process.url}/v1/completions", json=SHORT).status_code == 200


@pytest.mark.slow
def test_ten_thousand_idle_connections(serve_process: Serve):
    resource = pytest.importorskip("resource")
    many, (_, most) = 10_000, resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < many + 500:
        pytest.skip(f"this machine allows {most} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with serve_process() as process:
        httpx.post(f"{process.url}/v1/completions", json=SHORT).raise_for_status()
        before = process.memory()
        connections = [raw(process) for _ in range(many)]
        try:
            # Half of them have begun a request and do not go on.
            for connection in connections[::2]:
                connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: troth\r\n")
            wait_until(lambda: len(os.listdir(f"/proc/{process.process.pid}/fd")) > many, 60)
            answer = httpx.post(f"{process.url}/v1/completions", json=SHORT, timeout=30)
            assert answer.json()["usage"]["completion_tokens"] == 3
            assert process.memory() - before < 400e6
        finally:
            for connection in connections:
                connection.close()
        wait_until(lambda: len(os.listdir(f"/proc/{process.process.pid}/fd")) < 500, 60)
