"""`troth serve`: a model folder behind an OpenAI-compatible address."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from troth.cli.listening import allow_many_connections, authority, listen
from troth.cli.logs import LogFormat, set_up_logging
from troth.cli.options import AsJson, Changes, SystemName, print_json, read_system
from troth.security.keys import Keys

if TYPE_CHECKING:
    from troth.serve.engine.engine import Engine
    from troth.system import ServeTable

QUESTION = "In what year was Magna Carta sealed?"


class EngineName(StrEnum):
    """Whose engine computes."""

    TROTH = "troth"
    VLLM = "vllm"


def command(
    folder: Annotated[Path, typer.Argument(help="A model folder: config.json, model.safetensors, tokenizer.json.")],
    system: SystemName = "nano",
    changes: Changes = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on, in place of serve.host.")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port to listen on, in place of serve.port; 0 takes a free one."),
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="Port for xAI's SDK, which speaks gRPC, in place of serve.grpc_port.")
    ] = None,
    kv_cache_dtype: Annotated[
        str | None,
        typer.Option(help="auto, int8 or fp8: in what keys and values are kept, in place of serve.kv_cache_dtype."),
    ] = None,
    enforce_eager: Annotated[
        bool, typer.Option("--enforce-eager", help="Give a GPU no CUDA graphs, as serve.enforce_eager.")
    ] = False,
    max_model_len: Annotated[
        int | None, typer.Option(help="Most tokens of prompt and answer together: serve.max_model_len.")
    ] = None,
    chat_template: Annotated[
        Path | None, typer.Option(help="A file with a chat template, in place of the folder's: serve.chat_template.")
    ] = None,
    allowed_origins: Annotated[
        str | None,
        typer.Option(
            help="Sites whose pages may ask from within a browser, such as '[\"*\"]': serve.allowed_origins.",
            metavar="JSON",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name", "--served-model-name",
            help="Name of the model for clients, the folder's by default; may be repeated for further ones.",
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="A LoRA adapter to serve too, under a name of its own."),
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            envvar="TROTH_API_KEY", help="A key that clients must show; may be repeated. serve.api_keys names a file.",
            metavar="KEY",
        ),
    ] = None,
    replicas: Annotated[
        str | None,
        typer.Option(
            help="Serve by several processes under Ray Serve, as many as the load needs; in place of the numbers of "
            "serve.autoscaling.",
            metavar="MIN:MAX",
        ),
    ] = None,
    engine: Annotated[
        EngineName, typer.Option(help="Troth's own engine, or vLLM where it is installed.")
    ] = EngineName.TROTH,
    log_format: Annotated[LogFormat, typer.Option(help="Form of the log on standard error.")] = LogFormat.TEXT,
    as_json: AsJson = False,
) -> None:
    """Serve a model over the OpenAI API until interrupted; running answers are finished first."""
    given = {
        "kv_cache_dtype": kv_cache_dtype, "enforce_eager": "true" if enforce_eager else None, "grpc_port": grpc_port,
        "max_model_len": max_model_len, "chat_template": chat_template, "allowed_origins": allowed_origins,
        "aliases": json.dumps(name[1:]) if name and name[1:] else None,
    }  # fmt: skip
    changes = [*(changes or ()), *(f"serve.{key}={value}" for key, value in given.items() if value is not None)]
    table = read_system(system, changes).serve
    if not all(api_key or ["some"]):
        raise ValueError("--api-key: is empty, and would let nobody in")
    if table.grpc_port is not None:
        _check_grpc(alone=engine is EngineName.TROTH and replicas is None and table.autoscaling is None)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    adapters = _folders(adapter or [])
    if os.environ.get("RANK", "0") != "0":
        _follow(folder, table, adapters)
        return
    model_id = name[0] if name else folder.resolve().name
    address = table.host if host is None else host, table.port if port is None else port
    if engine is EngineName.VLLM:
        from troth.serve.vllm import become_vllm

        if replicas is not None or table.autoscaling:
            raise ValueError(
                "--replicas and [serve.autoscaling] are for Troth's engine; vLLM has --data-parallel-size of its own"
            )
        become_vllm(folder, table, address, model_id, api_key or [])
    listener = listen(*address)
    with listener:
        keys = Keys(api_key or (), table.api_keys) if api_key or table.api_keys else None
        set_up_logging(log_format)
        if replicas is not None or table.autoscaling:
            _serve_replicas(folder, table, listener, model_id, adapters, keys, replicas, as_json)
        else:
            if table.grpc_port is not None:
                table = _with_grpc_port(table, listener)
            _serve(folder, table, listener, model_id, adapters, keys, as_json)


def _check_grpc(alone: bool) -> None:
    if not alone:
        raise ValueError("serve.grpc_port is for one process of Troth's engine: leave out --replicas and --engine vllm")
    if importlib.util.find_spec("xai_sdk") is None:
        raise ValueError("serve.grpc_port needs xAI's messages: pip install 'troth[xai]'")


def _with_grpc_port(table: ServeTable, listener: socket.socket) -> ServeTable:
    """The table with a port that could be had just now on the listener's host: gRPC takes no bound socket."""
    host = listener.getsockname()[0]
    with listen(host, table.grpc_port or 0) as found:
        return table.model_copy(update={"host": host, "grpc_port": found.getsockname()[1]})


def _follow(folder: Path, table: ServeTable, adapters: dict[str, Path]) -> None:
    """The part of a rank of torchrun other than the first."""
    from troth.serve.engine.engine import Engine
    from troth.serve.engine.ranks import follow, torchrun_ranks

    # The first rank is told to end and finishes what it streams; then it ends the others.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with torchrun_ranks() as ranks:
        follow(Engine.from_folder(folder, table, adapters=adapters, ranks=ranks).runner)


def _folders(adapters: list[str]) -> dict[str, Path]:
    """Adapters by name. Raises ValueError naming one that is not NAME=FOLDER, or twice there."""
    found: dict[str, Path] = {}
    for adapter in adapters:
        name, _, folder = adapter.partition("=")
        if not name or not folder or name in found:
            raise ValueError(f"--adapter {adapter}: expected NAME=FOLDER, each name once")
        found[name] = Path(folder)
    return found


def _serve(
    folder: Path, table: ServeTable, listener: socket.socket, model_id: str, adapters: dict[str, Path],
    keys: Keys | None, as_json: bool,
) -> None:
    import uvicorn

    from troth.serve.api.drain import Drain, DrainingServer
    from troth.serve.api.head_limit import HeadLimit
    from troth.serve.build import build_app, sampling_defaults
    from troth.serve.engine.ranks import torchrun_ranks

    drain = Drain()
    # Proxies keep connections for about a minute; the one who closes first should not be the server. The time at the
    # end is for the last events of streams that are cut off; those that end in time have ended before.
    with torchrun_ranks() as ranks:
        app, engine, thread = build_app(folder, table, model_id, adapters, keys, drain, ranks)
        facts = _facts(engine, table, listener, model_id, sampling_defaults(folder, table))
        _show(facts | {"needs_key": keys is not None}, as_json)
        config = uvicorn.Config(
            app, http=HeadLimit, log_config=None, access_log=False, timeout_keep_alive=75, timeout_graceful_shutdown=2
        )
        allow_many_connections()
        DrainingServer(config, drain, table.drain_seconds, thread.stop).run(sockets=[listener])


def _serve_replicas(
    folder: Path, table: ServeTable, listener: socket.socket, model_id: str, adapters: dict[str, Path],
    keys: Keys | None, replicas: str | None, as_json: bool,
) -> None:
    from rich.console import Console

    from troth.serve.replicas.run import running, spanned

    scaling = table.autoscaling if replicas is None else spanned(replicas, table.autoscaling)
    assert scaling is not None
    host, port = listener.getsockname()[:2]
    # Ray's ingress listens itself; until here the socket kept others from the port.
    listener.close()
    least, most = scaling.min_replicas, scaling.max_replicas
    facts = {"url": _url(host, port), "model": model_id, "replicas": [least, most]}
    # Blocked before any thread begins, so that no thread but this one takes them.
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with running(folder, table, model_id, adapters, keys, scaling, (host, port)):
        if as_json:
            print_json(facts)
        else:
            console = Console(highlight=False)
            console.print(f"address   {facts['url']}\nmodel     {model_id}, {least} to {most} replicas")
        signal.sigwait(ends)


def _url(host: str, port: int) -> str:
    return f"http://{authority(host, port)}/v1"


def _facts(
    engine: Engine, table: ServeTable, listener: socket.socket, model_id: str, defaults: Mapping[str, float]
) -> dict[str, Any]:
    kind, weight_bytes = engine.weights
    return {
        "url": _url(*listener.getsockname()[:2]),
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


def _show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    from rich.console import Console

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("address", facts["url"])
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
    console = Console(highlight=False)
    console.print(table)
    console.print("\nTry it from another terminal:")
    for line in _examples(facts["url"], facts["model"], facts["needs_key"]):
        console.print(line, soft_wrap=True, markup=False)


def _examples(url: str, model_id: str, needs_key: bool) -> tuple[str, str]:
    """A curl line and a Python line (standard library only) that ask the model something, with $TROTH_API_KEY."""
    body = json.dumps({"model": model_id, "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]})
    address = f"{url}/chat/completions"
    key = ', "Authorization": "Bearer " + os.environ["TROTH_API_KEY"]' if needs_key else ""
    request = f'u.Request("{address}", b"""{body}""", {{"Content-Type": "application/json"{key}}})'
    code = f'print(json.load(u.urlopen({request}))["choices"][0]["message"]["content"])'
    shown = ' -H "Authorization: Bearer $TROTH_API_KEY"' if needs_key else ""
    return (
        f"curl {address} -H 'Content-Type: application/json'{shown} -d '{body}'",
        f"python3 -c 'import json, os, urllib.request as u; {code}'",
    )
