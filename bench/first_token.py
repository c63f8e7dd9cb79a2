"""Time to the first token over HTTP: of new prompts, behind a prefix in the cache, and beside texts being written.

    python bench/first_token.py [--llama-server PATH] [--requests 30] [--streams 8] [--json]

Two networks with random weights: of nano's sizes, and the Qwen3-MoE of bench/network.py (175 million parameters, 43
million active), which llama-server runs too where it is given. One client sends prompts of token ids one after the
other over loopback and times the first event of each answer from sending. A row gives the median, the 99th percentile
and the most of `--requests` answers. `beside` rows do so while `--streams` other clients stream answers all the time,
whose median and longest time between tokens stand beside.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import torch
from idle import warn_if_busy
from model import SIZES, TOKENS, write_model
from serve_http import (
    NAME,
    TROTH,
    Answer,
    Server,
    llama_command,
    percentile_99,
    serving,
    session_for,
    stream,
)

from troth.model.decoder import Decoder
from troth.model.families.configs import to_hf_config
from troth.model.families.weights import save_weights
from troth.model.initialise import initialise
from troth.model.tokenizer import Tokenizer
from troth.system import load_system


def main() -> None:
    """Run, print a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-server", type=Path, metavar="PATH", help="llama.cpp's server, built")
    parser.add_argument("--requests", type=int, default=30, help="requests of a row")
    parser.add_argument("--streams", type=int, default=8, help="answers that are streamed beside")
    parser.add_argument("--threads", type=int, default=2, help="threads of llama-server")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        large, nano = Path(name) / "175M", Path(name) / "nano"
        write_model(large, SIZES)
        write_nano(nano, large)
        for folder, prefix in ((nano, 1_900), (large, 4_000)):
            command = [*TROTH, "serve", str(folder), "--port", "{port}", "--json", "--name", NAME]
            with serving(command, Path(name) / "troth.log") as server:
                rows += measure("troth", folder.name, server, prefix, options)
        if options.llama_server:
            command = llama_command(
                options.llama_server, large, Path(name) / "model.gguf", options.streams + 1, 8_192, options.threads
            )
            with serving(command, Path(name) / "llama.log") as server:
                rows += measure("llama-server", large.name, server, 4_000, options)
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        times = "  ".join(f"{name} {row[name] * 1e3:6.1f} ms" for name in ("p50", "p99", "most"))
        print(f"{row['program']:<12} {row['network']:<4} {row['what']:<36} {times}{_beside(row)}")


def _beside(row: dict[str, Any]) -> str:
    if "itl_p50" not in row:
        return ""
    return f"   the streams: ITL p50 {row['itl_p50'] * 1e3:.1f} ms, longest {row['itl_longest'] * 1e3:.1f} ms"


def write_nano(folder: Path, tokenizer: Path) -> None:
    """A network of nano's sizes with random weights, and another folder's tokenizer."""
    folder.mkdir()
    config = load_system("nano").model
    network = initialise(Decoder(config), 0)
    for moe in network.moe_layers():
        # Routers that start at zero would send every token to the same experts.
        torch.nn.init.normal_(moe.router.gate.weight, std=0.2, generator=torch.Generator().manual_seed(0))
    known = Tokenizer.load(tokenizer)
    save_weights(network, to_hf_config(config, "float32", known.end_of_text), folder)
    known.save(folder)


def measure(
    program: str, network: str, server: Server, prefix: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of one server."""
    draw = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(256, TOKENS) for _ in range(count)]

    shared = tokens(prefix)
    kinds = (
        ("16 new tokens", lambda: tokens(16), 0),
        ("128 new tokens", lambda: tokens(128), 0),
        (f"{prefix:,} cached tokens + 16 new", lambda: shared + tokens(16), 0),
        (f"16 new tokens beside {options.streams} streams", lambda: tokens(16), options.streams),
        (f"128 new tokens beside {options.streams} streams", lambda: tokens(128), options.streams),
    )
    return [
        {"program": program, "network": network, "what": what}
        | asyncio.run(first_tokens(server, prompt, streams, options.requests))
        for what, prompt, streams in kinds
    ]


async def first_tokens(
    server: Server, prompt: Callable[[], list[int]], streams: int, requests: int
) -> dict[str, float]:
    """Times in seconds of `requests` first tokens, one after the other, beside `streams` answers."""
    beside: list[Answer] = []

    async def write(session: aiohttp.ClientSession) -> None:
        while True:
            answer, _ = await stream(session, server, body(prompt()[:16], 400))
            beside.append(answer)

    async with session_for(streams + 1) as session:
        writers = [asyncio.create_task(write(session)) for _ in range(streams)]
        times = []
        # The first ones warm up: they fill the cache, and the streams begin.
        for number in range(requests + 3):
            answer, _ = await stream(session, server, body(prompt(), 1))
            if number >= 3:
                times.append(answer.ttft)
            if streams:
                await asyncio.sleep(0.05)
        while len(beside) < streams:
            await asyncio.sleep(0.1)
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
    found = {"p50": statistics.median(times), "p99": percentile_99(times), "most": max(times)}
    if beside:
        found["itl_p50"] = statistics.median(answer.itl for answer in beside)
        found["itl_longest"] = max(answer.longest for answer in beside)
    return found


def body(prompt: list[int], output: int) -> dict[str, Any]:
    return {
        "prompt": prompt, "max_tokens": output, "temperature": 0, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip


if __name__ == "__main__":
    main()
