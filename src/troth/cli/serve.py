"""`troth serve`: a model folder behind an OpenAI-compatible address."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import threading
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from troth.cli.listening import allow_many_connections, authority, check_certificate, listen, listening
from troth.cli.logs import LogFormat, set_up_logging
from troth.cli.options import AsJson, Changes, SystemName, print_json, read_system
from troth.cli.serve_facts import base_url, facts_of, show
from troth.security.keys import Keys

if TYPE_CHECKING:
    from troth.system import ServeTable


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
    uds: Annotated[
        Path | None, typer.Option(help="A Unix domain socket to listen on, in place of host and port: serve.uds.")
    ] = None,
    ssl_certfile: Annotated[
        Path | None, typer.Option(help="Speak TLS by this certificate (PEM): serve.ssl_certfile.")
    ] = None,
    ssl_keyfile: Annotated[
        Path | None, typer.Option(help="The certificate's key, where it is in another file: serve.ssl_keyfile.")
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
        "aliases": json.dumps(name[1:]) if name and name[1:] else None, "port": port, "uds": uds,
        "host": None if host is None else json.dumps(host), "ssl_certfile": ssl_certfile,
        "ssl_keyfile": ssl_keyfile,
    }  # fmt: skip
    said = [f"serve.{key}={value}" for key, value in given.items() if value is not None]
    table = read_system(system, [*(changes or ()), *said]).serve
    adapters = _folders(adapter or [])
    several = replicas is not None or table.autoscaling is not None
    _check(folder, table, engine, several, api_key or [])
    if os.environ.get("RANK", "0") != "0":
        _follow(folder, table, adapters)
        return
    model_id = name[0] if name else folder.resolve().name
    if engine is EngineName.VLLM:
        from troth.serve.vllm import become_vllm

        become_vllm(folder, table, model_id, api_key or [])
    with listening(table.host, table.port, table.uds) as listener:
        keys = Keys(api_key or (), table.api_keys) if api_key or table.api_keys else None
        set_up_logging(log_format)
        if several:
            _serve_replicas(folder, table, listener, model_id, adapters, keys, replicas, as_json)
        else:
            _serve(folder, table, listener, model_id, adapters, keys, as_json)


def _check(folder: Path, table: ServeTable, engine: EngineName, several: bool, api_keys: list[str]) -> None:
    """Raise ValueError for what cannot be had, before anything slow is done."""
    from troth.model.families.configs import read_config

    if not all(api_keys):
        raise ValueError("--api-key: is empty, and would let nobody in")
    if engine is EngineName.TROTH:
        read_config(folder)
    elif not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    check_certificate(table.ssl_certfile, table.ssl_keyfile)
    if engine is EngineName.VLLM and several:
        raise ValueError(
            "--replicas and [serve.autoscaling] are for Troth's engine; vLLM has --data-parallel-size of its own"
        )
    if several and (table.uds or table.ssl_certfile):
        raise ValueError("serve.uds and serve.ssl_certfile are for one process: leave out --replicas")
    if table.grpc_port is not None:
        if several or engine is EngineName.VLLM:
            says = "serve.grpc_port is for one process of Troth's engine: leave out --replicas and --engine vllm"
            raise ValueError(says)
        if importlib.util.find_spec("xai_sdk") is None:
            raise ValueError("serve.grpc_port needs xAI's messages: pip install 'troth[xai]'")


def _with_grpc_port(table: ServeTable, listener: socket.socket) -> ServeTable:
    """The table with a port that could be had just now on the listener's host: gRPC takes no bound socket."""
    host = table.host if table.uds else listener.getsockname()[0]
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
    if table.grpc_port is not None:
        table = _with_grpc_port(table, listener)
    # Proxies keep connections for about a minute; the one who closes first should not be the server. The time at the
    # end is for the last events of streams that are cut off; those that end in time have ended before.
    with torchrun_ranks() as ranks:
        app, engine, thread = build_app(folder, table, model_id, adapters, keys, drain, ranks)
        facts = facts_of(engine, table, listener, model_id, sampling_defaults(folder, table))
        show(facts | {"needs_key": keys is not None}, as_json)
        config = uvicorn.Config(
            app, http=HeadLimit, log_config=None, access_log=False, timeout_keep_alive=75, timeout_graceful_shutdown=2,
            ssl_certfile=table.ssl_certfile, ssl_keyfile=table.ssl_keyfile,
        )  # fmt: skip
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
    facts = {"url": base_url(authority(host, port)), "model": model_id, "replicas": [least, most]}
    with running(folder, table, model_id, adapters, keys, scaling, (host, port)):
        if as_json:
            print_json(facts)
        else:
            console = Console(highlight=False)
            console.print(f"address   {facts['url']}\nmodel     {model_id}, {least} to {most} replicas")
        _wait_for_the_end()


def _wait_for_the_end() -> None:
    """Until SIGINT or SIGTERM; a second one is what it was before, so that nobody has to wait for the drain."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    # Any of Ray's threads may be given a signal, which does not wake this one; its handler runs here nonetheless.
    while not told.wait(0.2):
        pass
    for number, handler in before.items():
        signal.signal(number, handler)
