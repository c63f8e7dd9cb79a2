"""What `troth serve` prints when a server begins."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from troth.cli.listening import authority
from troth.cli.options import print_json

if TYPE_CHECKING:
    from troth.serve.engine.engine import Engine
    from troth.system import ServeTable

QUESTION = "In what year was Magna Carta sealed?"


def base_url(at: str, secure: bool = False) -> str:
    """What clients are given of a server that listens at HOST:PORT."""
    return f"{'https' if secure else 'http'}://{at}/v1"


def facts_of(
    engine: Engine, table: ServeTable, listener: socket.socket, model_id: str, defaults: Mapping[str, float]
) -> dict[str, Any]:
    """What a server says of itself when it begins: where it listens, and what it holds."""
    kind, weight_bytes = engine.weights
    at = "localhost" if table.uds else authority(*listener.getsockname()[:2])
    return {
        "url": base_url(at, secure=table.ssl_certfile is not None),
        "uds": table.uds and str(table.uds),
        "grpc": None if table.grpc_port is None else authority(table.host, table.grpc_port),
        "model": model_id,
        "device": str(engine.cache.device),
        "dtype": kind,
        "adapters": list(engine.adapters.names),
        "context_tokens": engine.context,
        "max_batch": table.max_batch,
        "max_step_tokens": table.max_step_tokens,
        "max_waiting": table.max_waiting,
        "cache_tokens": engine.cache_tokens,
        "kv_cache_dtype": engine.kv_cache_dtype,
        "weight_bytes": weight_bytes,
        "cache_bytes": engine.cache.bytes,
        "sampling": dict(defaults),
    }


def show(facts: dict[str, Any], as_json: bool) -> None:
    """Print these, as a table with two lines to try, or as JSON."""
    if as_json:
        print_json(facts)
        return
    from rich.console import Console

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("address", facts["uds"] or facts["url"])
    if facts["grpc"]:
        table.add_row("gRPC", f"{facts['grpc']}, for xAI's SDK")
    table.add_row("model", f"{facts['model']} on {facts['device']}, {facts['dtype']}")
    if facts["adapters"]:
        table.add_row("adapters", ", ".join(facts["adapters"]))
    table.add_row("context", f"{facts['context_tokens']:,} tokens, prompt and answer together")
    table.add_row(
        "batch", f"{facts['max_batch']} sequences, {facts['max_step_tokens']:,} prompt tokens a step; "
        f"{facts['max_waiting']} more may wait"
    )  # fmt: skip
    table.add_row(
        "memory", f"weights {facts['weight_bytes'] / 2**20:,.1f} MiB, cache {facts['cache_bytes'] / 2**20:,.1f} MiB "
        f"for {facts['cache_tokens']:,} tokens in {facts['kv_cache_dtype']}"
    )  # fmt: skip
    if facts["sampling"]:
        said = ", ".join(f"{name} {value:g}" for name, value in facts["sampling"].items())
        table.add_row("sampling", f"{said}, unless a request says otherwise (generation_config.json)")
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print("\nTry it from another terminal:")
    for line in _examples(facts["url"], facts["uds"], facts["model"], facts["needs_key"]):
        console.print(line, soft_wrap=True)


def _examples(url: str, uds: str | None, model_id: str, needs_key: bool) -> list[str]:
    """A curl line and a Python line (standard library only, which knows no sockets of files) that ask the model
    something, with $TROTH_API_KEY."""
    body = json.dumps({"model": model_id, "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]})
    address = f"{url}/chat/completions"
    key = ', "Authorization": "Bearer " + os.environ["TROTH_API_KEY"]' if needs_key else ""
    request = f'u.Request("{address}", b"""{body}""", {{"Content-Type": "application/json"{key}}})'
    code = f'print(json.load(u.urlopen({request}))["choices"][0]["message"]["content"])'
    shown = ' -H "Authorization: Bearer $TROTH_API_KEY"' if needs_key else ""
    where = f"--unix-socket {uds} {address}" if uds else address
    curl = f"curl {where} -H 'Content-Type: application/json'{shown} -d '{body}'"
    return [curl] if uds else [curl, f"python3 -c 'import json, os, urllib.request as u; {code}'"]
