"""Several replicas under Ray Serve: real ones for what Ray does, plain calls for what decides."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from troth.serve.replicas.affinity import affinity
from troth.serve.replicas.exposition import merged_metrics
from troth.serve.replicas.run import free_port, spanned
from troth.serve.replicas.scaling import TTFT, Scaling
from troth.system import AutoscalingTable

TROTH = [sys.executable, "-c", "from troth.cli.main import main; main()"]
STARTING_SECONDS = 180


def key(body: dict[str, Any], headers: dict[bytes, bytes] | None = None) -> str:
    return affinity(headers or {}, json.dumps(body).encode())


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ("system", "user", "assistant", "user")
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {"messages": turns} | more


def test_a_conversation_keeps_its_replica():
    begun = key(chat("Be brief.", "Hello"))
    assert begun
    assert begun == key(chat("Be brief.", "Hello", "Hello!", "And now?"), {b"accept": b"*/*"})
    assert begun != key(chat("Be brief.", "Good morning"))
    long = "You know everything about cheese. " * 100
    assert key(chat(long, "Gouda?")) == key(chat(long, "Brie?")), "they share more than they differ in"
    assert key({"prompt": [1, 2, 3]}) == key({"prompt": [1, 2, 3], "max_tokens": 3}) != key({"prompt": [1, 2, 4]})
    assert key({"input": "Hello"}) != key({"input": "Hello", "instructions": "Be brief."})


def test_what_a_client_says_comes_first():
    assert key(chat("a", "b", prompt_cache_key="mine")) == "mine" == key({"prompt_cache_key": "mine"})
    assert key(chat("a", "b", prompt_cache_key="mine"), {b"x-grok-conv-id": b"ours"}) == "ours"
    assert key({"prompt_cache_key": "half \ud83d"}) == "half ?", "what the ring can hash"


def test_what_has_no_prompt_goes_anywhere():
    for body in (b"", b"\xff", b"[1]", b"{}", b'{"messages": []}', b'{"messages": 7}'[:-1], b"[" * 50_000):
        assert affinity({}, body) == ""


@dataclass
class Load:
    total_num_requests: float
    current_num_replicas: int
    aggregated_metrics: dict[str, dict[object, float]]


def test_replicas_follow_requests_and_time_to_first_token():
    wanted = Scaling(requests=8, ttft=2)
    assert wanted(Load(20, 1, {})) == (2.5, {})
    assert wanted(Load(0, 3, {TTFT: {"a": 0.1, "b": 0.0}})) == (0, {})
    assert wanted(Load(4, 2, {TTFT: {"a": 6.0, "b": 2.0}})) == (4, {}), "twice the time allowed: twice the replicas"
    assert wanted(Load(40, 2, {TTFT: {"a": 2.5}})) == (5, {})


def test_metrics_of_replicas_make_one_page():
    page = "# HELP tokens_total Tokens.\n# TYPE tokens_total counter\ntokens_total{model_name=\"m\"} 3.0\n"
    merged = merged_metrics({"a": page, "b": page}).decode()
    assert merged.count("# TYPE tokens_total counter") == 1
    assert 'tokens_total{engine="a",model_name="m"} 3.0' in merged
    assert 'tokens_total{engine="b",model_name="m"} 3.0' in merged


def test_spans():
    assert spanned("1:4", None) == AutoscalingTable(min_replicas=1, max_replicas=4)
    assert spanned("2", None) == AutoscalingTable(min_replicas=2, max_replicas=2)
    table = AutoscalingTable(min_replicas=3, max_replicas=9, target_requests=5, downscale_delay_seconds=600)
    assert spanned("1:4", table) == table.model_copy(update={"min_replicas": 1, "max_replicas": 4})
    for wrong in ("", "0:2", "4:1", "1-4", "a:b"):
        with pytest.raises(ValueError, match="MIN:MAX"):
            spanned(wrong, None)


def test_a_port_that_is_held_is_left_to_its_holder():
    with socket.socket() as other:
        other.bind(("", 0))
        held = other.getsockname()[1]
        other.listen()
        assert free_port(held) != held
    assert free_port(held) == held


@dataclass
class Server:
    url: str
    process: subprocess.Popen[str]

    def replicas(self) -> list[psutil.Process]:
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            if process.status() != psutil.STATUS_ZOMBIE and "ServeReplica:troth:Replica" in " ".join(process.cmdline()):
                found.append(process)
        return found

    def queries(self) -> dict[str, float]:
        """Tokens that each replica has looked for in its prefix cache."""
        page = httpx.get(f"{self.url.removesuffix('/v1')}/metrics").text
        found = re.findall(r'^vllm:prefix_cache_queries_total\{engine="(\w+)".*\} (\S+)', page, re.MULTILINE)
        return {engine: float(count) for engine, count in found}


@pytest.fixture
def start(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    started: list[subprocess.Popen[str]] = []

    def start(span: str, max_batch: int, *more: str) -> Server:
        settings = ["--set", "serve.cache_tokens=32768", "--set", f"serve.max_batch={max_batch}"]
        command = [*TROTH, "serve", str(folder), "--replicas", span, "--port", "0", "--json", *settings, *more]
        log = (tmp_path_factory.mktemp("log") / "stderr").open("w")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        started.append(process)
        printed = ""
        while not printed.endswith("}\n"):
            line = process.stdout.readline()
            assert line, Path(log.name).read_text(encoding="utf-8")
            printed = line if line.startswith("{") else printed + line
        return Server(json.loads(printed)["url"], process)

    yield start
    for process in started:
        # Where a test has failed, what Ray started would else live on beside the next one.
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()


def wait(condition: Callable[[], Any], seconds: float = STARTING_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.2)


def origins(answer: httpx.Response) -> list[str]:
    """Those that may read an answer; browsers want them to be said once."""
    return answer.headers.get_list("access-control-allow-origin")


@pytest.mark.slow
def test_two_replicas(start: Callable[..., Server], proverbs: str):
    """One server for all, since Ray takes its time to begin."""
    server = start("2:2", 18, "--allowed-origins", '["*"]')
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=180)
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert len(server.replicas()) == 2

    many = httpx.post(f"{server.url}/completions", json={"model": "tiny", "prompt": [[]] * 500_000}, timeout=60)
    assert (many.status_code, many.json()["error"]["code"]) == (413, "request_too_large")

    # A conversation meets the same replica, which finds it in its cache, every time. The metrics tell both apart.
    homes: dict[str, list[str]] = {}
    met = server.queries()
    assert len(met) == 2
    for who in range(30):
        ask: Any = {"model": "tiny", "prompt": f"{who} {proverbs}", "max_tokens": 1}
        ask["extra_body"] = {"prompt_cache_key": f"client {who}"}
        cached = [client.completions.create(**ask).usage.prompt_tokens_details.cached_tokens for _ in range(3)]
        assert cached[0] == 0
        assert min(cached[1:]) > 0
        before, met = met, server.queries()
        (home,) = (engine for engine, count in met.items() if count > before[engine])
        homes.setdefault(home, []).append(f"client {who}")
    assert len(homes) == 2, "conversations are spread over both"
    # Which replica a conversation meets depends on the ring, and so on the replicas' names: three of each.
    assert min(map(len, homes.values())) >= 3
    clients = [conversation for conversations in homes.values() for conversation in conversations[:3]]

    # Errors come through as they are, and browsers let pages of other sites read them.
    client = client.copy(default_headers={"Origin": "https://chat.example"})
    with pytest.raises(openai.BadRequestError, match="at most") as refused:
        client.completions.create(model="tiny", prompt=[1] * 5000)
    assert origins(refused.value.response) == ["*"]

    named = httpx.get(f"{server.url}/models", headers={"x-request-id": "one-7"})
    assert named.headers.get_list("x-request-id") == ["one-7"]

    # A replica is killed: the other goes on with greedy texts and those with a seed, and the rest of what it wrote ends
    # with an error.
    begun: set[int] = set()
    ends: dict[int, str] = {}
    written: dict[int, str] = {}

    def read(who: int) -> None:
        try:
            ask: Any = {"extra_body": {"ignore_eos": True, "prompt_cache_key": clients[who % 6]}}
            ask |= {6: {"temperature": 0}, 12: {"seed": who}}.get(who - who % 6, {})
            for chunk in client.completions.create(model="tiny", prompt="Go", max_tokens=1500, stream=True, **ask):
                begun.add(who)
                written[who] = written.get(who, "") + chunk.choices[0].text
                ends[who] = str(chunk.choices[0].finish_reason)
        except openai.APIError as error:
            ends[who] = f"{error.code}: {error.message}"

    threads = [threading.Thread(target=read, args=(who,)) for who in range(18)]
    # Those that cannot be resumed come last, so that none of them has ended by then.
    for thread in reversed(threads):
        thread.start()
    wait(lambda: len(begun) == len(threads), 60)
    killed = server.replicas()[0]
    killed.kill()
    for thread in threads:
        thread.join(timeout=120)
    assert len(ends) == 18, "no stream is left hanging"
    unseeded, resumed = ({ends[who] for who in places} for places in (range(6), range(6, 18)))
    assert unseeded == {"length", "replica_failed: the replica that was answering has failed"}
    assert resumed == {"length"}
    assert len({written[who] for who in range(6, 12)}) == 1, "greedy texts of the same prompt are the same"

    # Others answer at once, and a new one comes for the one that went.
    for conversation in clients:
        more = {"prompt_cache_key": conversation, "ignore_eos": True}
        answer = client.completions.create(model="tiny", prompt="Go", max_tokens=2, extra_body=more)
        assert answer.usage.completion_tokens == 2
    wait(lambda: len(server.replicas()) == 2 and killed.pid not in {process.pid for process in server.replicas()})

    # Asked to end, the server takes nothing new and finishes what streams: for long enough to be asked meanwhile.
    late: Any = {"prompt": "Go", "max_tokens": 3000, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server.url}/completions", json=late, timeout=180) as stream:
        lines = stream.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        wait(lambda: httpx.get(f"{server.url.removesuffix('/v1')}/ready").status_code == 503, 10)
        with pytest.raises(openai.InternalServerError, match="takes no new requests") as refused:
            client.completions.create(model="tiny", prompt="Go")
        assert origins(refused.value.response) == ["*"]
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert server.process.wait(timeout=120) == 0


@pytest.mark.slow
def test_a_load_brings_a_second_replica(start: Callable[..., Server]):
    # A port that Ray's HAProxy usually takes is held by another program, or by a second server of replicas.
    with socket.socket() as other:
        other.bind(("", free_port(9101)))
        other.listen()
        server = start("1:2", 4)
    assert len(server.replicas()) == 1
    answered: list[int] = []
    grown = threading.Event()

    def ask() -> None:
        body = {"prompt": "Go", "max_tokens": 300, "ignore_eos": True}
        # For as long as it takes: a fixed load is done before it is noticed where the processor is fast.
        while not grown.is_set():
            answered.append(httpx.post(f"{server.url}/completions", json=body, timeout=STARTING_SECONDS).status_code)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    try:
        wait(lambda: len(server.replicas()) == 2)
    finally:
        grown.set()
        for thread in threads:
            thread.join(timeout=STARTING_SECONDS)
    assert len(answered) >= 20
    assert set(answered) == {200}
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=120) == 0


@pytest.mark.slow
def test_whoever_does_not_wait_for_the_end_leaves_nothing(start: Callable[..., Server]):
    """A second signal cuts the drain short."""
    server = start("1:1", 4)
    family = psutil.Process(server.process.pid).children(recursive=True)
    body = {"prompt": "Go", "max_tokens": 4000, "n": 4, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server.url}/completions", json=body, timeout=180) as stream:
        lines = stream.iter_lines()  # Dropped, it would close the connection.
        next(lines)
        server.process.send_signal(signal.SIGINT)
        wait(lambda: httpx.get(f"{server.url.removesuffix('/v1')}/ready").status_code == 503, 10)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=180) == 130
    assert psutil.wait_procs(family, timeout=10)[1] == []


@pytest.mark.slow
def test_whoever_interrupts_the_start_need_not_wait_for_it(folder: Path, tmp_path: Path):
    """As terminals do, which interrupt all that the command has started, too."""
    log = tmp_path / "log"
    with log.open("w") as errors:
        command = [*TROTH, "serve", str(folder), "--replicas", "1", "--port", "0"]
        process = subprocess.Popen(command, stdout=errors, stderr=errors, start_new_session=True)
    try:
        itself = psutil.Process(process.pid)
        # The first of Serve's actors: Ray has begun, and the replica is far from ready.
        wait(lambda: any("Serve" in " ".join(child.cmdline()) for child in itself.children(recursive=True)))
        family = itself.children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert psutil.wait_procs(family, timeout=10)[1] == []
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
