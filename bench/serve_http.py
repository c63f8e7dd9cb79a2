"""Many clients at once over HTTP, here and in llama-server on the same weights; and what a long mixed load leaves.

    python bench/serve_http.py --llama-server PATH [--clients 32] [--prompt 128] [--output 32] [--rounds 5] [--json]
    python bench/serve_http.py --mixed MINUTES [--json]

The network is the random Qwen3-MoE of bench/network.py (175 million parameters, 43 million active), written once as a
folder for `troth serve` and once as a GGUF file (`troth export`) for llama-server; --small takes a tiny one, to try the
script. Both servers run all the time and are loaded in turn over loopback: each client streams completions one
after the other, of prompts (token ids) that nobody has sent before. A row gives the median round: output tokens a
second over all clients, time to first token (TTFT) and time between tokens of a request (ITL). Without --llama-server
only Troth is measured.

--mixed sends chats and completions of all lengths, streamed and not, several choices, requests that are refused, and
clients that leave before or within an answer; then it checks that every cache block is free again and that the
server's memory has not grown since the first fifth of the time (exit code 1 otherwise).
"""

import argparse
import asyncio
import contextlib
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from idle import warn_if_busy
from model import SIZES, TOKENS, write_model

TROTH = [sys.executable, "-c", "from troth.cli.main import main; main()"]
NAME = "bench"
SMALL = {"vocab_size": TOKENS + 64, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
GROWTH = 0.02
"""Share of its memory that a server may gain over a mixed load: the allocator's doing, not a leak that goes on."""


def main() -> None:
    """Run, print a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-server", type=Path, metavar="PATH", help="llama.cpp's server, built")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--output", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--requests", type=int, default=3, help="requests of each client in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="threads of llama-server")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="for `troth serve`")
    parser.add_argument("--mixed", type=float, metavar="MINUTES", help="a mixed load for so long, instead")
    parser.add_argument("--small", action="store_true", help="a tiny network")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        write_model(folder, SIZES | (SMALL if options.small else {}))
        changes = f"serve.max_batch={options.clients}", *options.set
        settings = [part for change in changes for part in ("--set", change)]
        with contextlib.ExitStack() as servers:
            command = [*TROTH, "serve", str(folder), "--port", "{port}", "--json", "--name", NAME, *settings]
            ours = servers.enter_context(serving(command, Path(name) / "troth.log"))
            if options.mixed:
                sys.exit(report_mixed(asyncio.run(mixed(ours, options.mixed * 60, options.clients)), options.json))
            programs = {"troth": ours}
            if options.llama_server:
                gguf = Path(name) / "model.gguf"
                room = options.prompt + options.output + 16
                command = llama_command(options.llama_server, folder, gguf, options.clients, room, options.threads)
                programs["llama-server"] = servers.enter_context(serving(command, Path(name) / "llama.log"))
            rows = run(programs, options)
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(
            f"{row['program']:<13} {row['tokens_per_second']:>8,.1f} output tokens/s   TTFT p50 {row['ttft_p50']:.3f} s"
            f" p99 {row['ttft_p99']:.3f} s   ITL p50 {row['itl_p50'] * 1e3:.1f} ms p99 {row['itl_p99'] * 1e3:.1f} ms"
            f"   {row['retries']} retries   {row['ratio']:.2f}x tokens/s, {row['ttft_ratio']:.2f}x TTFT"
        )


def llama_command(program: Path, folder: Path, gguf: Path, slots: int, room: int, threads: int) -> list[str]:
    """llama-server on the weights of a folder, which are written into `gguf`, with `slots` of `room` tokens each."""
    subprocess.run([*TROTH, "export", str(folder), "--gguf", str(gguf)], check=True, stdout=subprocess.DEVNULL)
    return [
        str(program), "-m", str(gguf), "--host", "127.0.0.1", "--port", "{port}", "--parallel", str(slots),
        "--ctx-size", str(slots * room), "--threads", str(threads),
    ]  # fmt: skip


@dataclass(frozen=True)
class Server:
    """A server that answers at `url`, with the id of its process."""

    url: str
    pid: int

    def memory(self) -> int:
        """Bytes of memory that the process has (Linux)."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"process {self.pid} has no VmRSS")


@contextlib.contextmanager
def serving(command: list[str], log: Path) -> Iterator[Server]:
    """A server on a free port while open. Raises RuntimeError with its log where it ends before it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = [part.format(port=port) if part == "{port}" else part for part in command]
    with log.open("w", encoding="utf-8") as file, subprocess.Popen(said, stdout=file, stderr=file) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            while True:
                if process.poll() is not None:
                    raise RuntimeError(f"{command[0]} ended: {log.read_text(encoding='utf-8')[-2000:]}")
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{url}/health").status_code == 200:
                        break
                time.sleep(0.2)
            yield Server(url, process.pid)
        finally:
            process.terminate()


@dataclass(frozen=True)
class Answer:
    """Times in seconds: to the first event, and between tokens on average and at most; how many tokens came."""

    ttft: float
    itl: float
    longest: float
    tokens: int


def run(programs: dict[str, Server], options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a program: the median round, each loaded in turn."""
    found: dict[str, list[dict[str, float]]] = {program: [] for program in programs}
    draw = random.Random(0)
    for number in range(options.rounds + 1):
        for program, server in programs.items():
            measured = asyncio.run(one_round(server, options, draw))
            # The first round warms up.
            if number:
                found[program].append(measured)
    rows = [
        {"program": program} | {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        for program, rounds in found.items()
    ]
    peer = rows[-1]
    for row in rows:
        row["ratio"] = row["tokens_per_second"] / peer["tokens_per_second"]
        row["ttft_ratio"] = row["ttft_p50"] / peer["ttft_p50"]
    return rows


async def one_round(server: Server, options: argparse.Namespace, draw: random.Random) -> dict[str, float]:
    """All clients at once, `options.requests` each."""
    answers: list[Answer] = []
    retries = 0

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal retries
        for _ in range(options.requests):
            body = {
                "prompt": [draw.randrange(256, TOKENS) for _ in range(options.prompt)], "max_tokens": options.output,
                "temperature": 0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
            }  # fmt: skip
            answer, tries = await stream(session, server, body)
            answers.append(answer)
            retries += tries - 1

    start = time.perf_counter()
    async with session_for(options.clients) as session:
        await asyncio.gather(*(client(session) for _ in range(options.clients)))
    seconds = time.perf_counter() - start
    for answer in answers:
        assert answer.tokens == options.output, f"{answer.tokens} tokens, {options.output} asked for"
    ttft, itl = ([getattr(answer, name) for answer in answers] for name in ("ttft", "itl"))
    return {
        "tokens_per_second": sum(answer.tokens for answer in answers) / seconds,
        "ttft_p50": statistics.median(ttft), "ttft_p99": percentile_99(ttft),
        "itl_p50": statistics.median(itl), "itl_p99": percentile_99(itl), "retries": float(retries),
    }  # fmt: skip


@contextlib.asynccontextmanager
async def session_for(clients: int) -> AsyncIterator[aiohttp.ClientSession]:
    connector, timeout = aiohttp.TCPConnector(limit=clients), aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session


def percentile_99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]


async def stream(session: aiohttp.ClientSession, server: Server, body: dict[str, Any]) -> tuple[Answer, int]:
    """One streamed completion, and how many tries it took: llama-server now and then drops a connection it had kept."""
    tries = 1
    while True:
        try:
            return await stream_once(session, server, body), tries
        except aiohttp.ClientConnectionError:
            tries += 1


async def stream_once(session: aiohttp.ClientSession, server: Server, body: dict[str, Any]) -> Answer:
    """One streamed completion, timed from its sending."""
    start = time.perf_counter()
    first = last = longest = 0.0
    tokens = 0
    async with session.post(f"{server.url}/v1/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            if event.get("choices"):
                now = time.perf_counter()
                longest = max(longest, now - last if last else 0.0)
                first, last = first or now, now
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
    return Answer(first - start, (last - first) / max(1, tokens - 1), longest, tokens)


async def mixed(server: Server, seconds: float, clients: int) -> dict[str, Any]:
    """Load a server with all kinds of requests for so long, wait until it is idle, and say what is left."""
    draw = random.Random(0)
    counts: Counter[str] = Counter()
    memory: list[tuple[float, int]] = []
    start = time.monotonic()

    async def client(session: aiohttp.ClientSession) -> None:
        while time.monotonic() - start < seconds:
            counts[await one_of_many(session, server, draw)] += 1

    async def watch() -> None:
        while time.monotonic() - start < seconds:
            memory.append((time.monotonic() - start, server.memory()))
            await asyncio.sleep(min(5, seconds / 50))

    async with session_for(clients) as session:
        await asyncio.gather(watch(), *(client(session) for _ in range(clients)))
    end = time.monotonic() + 60
    while True:
        health = httpx.get(f"{server.url}/health").json()
        if health["running"] + health["waiting"] == 0 or time.monotonic() > end:
            break
        await asyncio.sleep(0.2)
    early = max(used for when, used in memory if when <= seconds / 5)
    late = statistics.median(used for when, used in memory if when >= seconds * 4 / 5)
    return {
        "seconds": seconds, "requests": dict(counts), "running": health["running"], "waiting": health["waiting"],
        "blocks_held": health["cache_blocks"] - health["free_cache_blocks"], "memory_early": early,
        "memory_late": late, "growth": late / early - 1,
    }  # fmt: skip


async def one_of_many(session: aiohttp.ClientSession, server: Server, draw: random.Random) -> str:
    """Send one request of a kind drawn at random; the name of the kind."""
    words = " ".join(draw.choices(("bird", "bush", "gold", "worm", "smoke", "fire"), k=draw.randrange(1, 400)))
    body: dict[str, Any] = {"model": NAME, "max_tokens": draw.randrange(1, 64), "stream": draw.random() < 0.6}
    if draw.random() < 0.5:
        path, body = "chat/completions", body | {"messages": [{"role": "user", "content": words}]}
    else:
        path, body = "completions", body | {"prompt": words, "n": draw.choice((1, 1, 1, 3))}
    kind = draw.choices(("answered", "left", "refused"), (70, 25, 5))[0]
    if kind == "refused":
        body |= {"temperature": -1}
    # Before the first token, or within the answer.
    patience = draw.choice((0.0, 0.05, 0.5)) if kind == "left" else None
    try:
        async with asyncio.timeout(patience), session.post(f"{server.url}/v1/{path}", json=body) as answer:
            await answer.read()
            if answer.status == 429:
                await asyncio.sleep(0.1)
            expected = {"refused": {400}}.get(kind, {200, 429})
            assert answer.status in expected, f"{answer.status} for {kind}"
            return "turned away" if answer.status == 429 else "answered" if kind == "left" else kind
    except TimeoutError:
        return "left"


def report_mixed(found: dict[str, Any], as_json: bool) -> int:
    """Print it; 1 where something was left behind."""
    leaked = found["blocks_held"] or found["running"] or found["waiting"] or found["growth"] > GROWTH
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        requests = ", ".join(f"{count} {kind}" for kind, count in sorted(found["requests"].items()))
        print(f"{found['seconds']:,.0f} s: {requests}")
        held = f"{found['running']} running, {found['waiting']} waiting, {found['blocks_held']} blocks held"
        early, late = found["memory_early"] / 2**20, found["memory_late"] / 2**20
        print(f"left behind: {held}")
        print(f"memory: {early:,.1f} MiB at most in the first fifth, {late:,.1f} in the last ({found['growth']:+.1%})")
    return int(bool(leaked))


if __name__ == "__main__":
    main()
