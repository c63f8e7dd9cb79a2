"""A small random model with a small tokenizer in a folder, engines over it, and real servers."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
import uvicorn

from troth.model.chat_template import conversation_template
from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.families.configs import to_hf_config
from troth.model.families.weights import load_weights, save_weights
from troth.model.initialise import initialise
from troth.model.norm import RMSNorm
from troth.model.tokenizer import Tokenizer
from troth.serve.api.app import create_app
from troth.serve.api.served import Served
from troth.serve.build import chat_template, sampling_defaults
from troth.serve.engine.cpu.library import KERNELS, load
from troth.serve.engine.cpu.pack import number_of
from troth.serve.engine.engine import Engine
from troth.serve.engine.thread import EngineThread
from troth.system.serve import ServeTable

from .steps import Text, random_texts

VOCABULARY = 400
POSITIONS = 4096
PROVERBS = (
    "A bird in the hand is worth two in the bush. All that glitters is not gold. The early bird catches the worm; "
    "where there is smoke there is fire, and a rolling stone gathers no moss. Ein Unglück kommt selten allein. "
    "Practice makes perfect, haste makes waste, and many hands make light work. Écoute et répète. "
)


@pytest.fixture
def choose_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Has the compiled library for one kind of processor used from then on; skips where it cannot be."""

    def forget() -> None:
        load.cache_clear()
        number_of.cache_clear()

    def choose(name: str) -> None:
        monkeypatch.setenv("TROTH_KERNELS", name)
        forget()
        if load() is None:
            pytest.skip(f"the library for {name} is not built, or this processor cannot run it")

    yield choose
    forget()


@pytest.fixture(params=KERNELS)
def kernels(request: pytest.FixtureRequest, choose_kernels: Callable[[str], None]) -> None:
    """The compiled library for each kind of processor."""
    choose_kernels(request.param)


@pytest.fixture
def texts() -> list[Text]:
    return random_texts()


@pytest.fixture(scope="session")
def proverbs() -> str:
    return PROVERBS


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    source = Path(json.__file__).read_text(encoding="utf-8")
    return Tokenizer.train(iter([PROVERBS, source]), VOCABULARY)


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    return ModelConfig(
        vocab_size=VOCABULARY + 8,
        hidden_size=64,
        intermediate_size=96,
        moe_intermediate_size=32,
        num_hidden_layers=4,
        num_dense_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        num_shared_experts=1,
        sliding_window=20,
        max_position_embeddings=POSITIONS,
        initializer_range=0.2,
    )


@torch.no_grad()
def random_network(config: ModelConfig, changes: dict[str, Any], dtype: torch.dtype) -> Decoder:
    """The network with other settings and random weights, those of norms, biases and routers too."""
    random = torch.Generator().manual_seed(7)
    model = initialise(Decoder(ModelConfig(**(config.model_dump() | changes))), 7)
    for module in model.modules():
        if isinstance(module, RMSNorm):
            module.weight.uniform_(0.5, 1.5, generator=random)
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "sinks")):
            parameter.normal_(0, 0.5, generator=random)
    for moe in model.moe_layers():
        moe.router.gate.weight.normal_(0, 0.2, generator=random)
    return model.to(dtype).eval()


def save_random_model(path: Path, config: ModelConfig, tokenizer: Tokenizer, **settings: str) -> Path:
    path.mkdir()
    model = initialise(Decoder(config), 5)
    # Routers that start at zero would send every token to the same experts.
    for moe in model.moe_layers():
        torch.nn.init.normal_(moe.router.gate.weight, std=0.2, generator=torch.Generator().manual_seed(6))
    save_weights(model, to_hf_config(config, "float32", tokenizer.end_of_text), path)
    tokenizer.save(path, **settings)
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, config: ModelConfig) -> Path:
    return save_random_model(tmp_path_factory.mktemp("models") / "tiny", config, tokenizer)


@pytest.fixture(scope="session")
def talker(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, config: ModelConfig) -> Path:
    """A random model with the template of conversations, and so many end tokens that its answers are short."""
    ends = [f"<|end_{i}|>" for i in range(16)]
    speaks = Tokenizer(tokenizer.ranks, [*tokenizer.special, *ends])
    wider = config.model_copy(update={"vocab_size": speaks.vocab_size})
    path = tmp_path_factory.mktemp("models") / "talker"
    save_random_model(path, wider, speaks, chat_template=conversation_template())
    settings = {"eos_token_id": [speaks.special[text] for text in ends]}
    (path / "generation_config.json").write_text(json.dumps(settings))
    return path


@pytest.fixture(scope="session")
def plain(folder: Path) -> Decoder:
    """The network of `folder` itself: an engine keeps its weights packed only."""
    return load_weights(folder)


@pytest.fixture(scope="session")
def make_engine(folder: Path) -> Callable[..., Engine]:
    """Engines over a folder; keywords change the [serve] table."""

    def make(model: Path = folder, adapters: dict[str, Path] | None = None, **changes: Any) -> Engine:
        return Engine.from_folder(model, ServeTable(**({"cache_tokens": 8192} | changes)), adapters=adapters)

    return make


@pytest.fixture(scope="session")
def run_server(make_engine: Callable[..., Engine], folder: Path) -> Callable[..., AbstractContextManager[str]]:
    """Real servers on free ports: `with run_server(max_batch=1) as url`."""

    @contextlib.contextmanager
    def run(model: Path = folder, adapters: dict[str, Path] | None = None, **changes: Any) -> Iterator[str]:
        engine = make_engine(model, adapters, **changes)
        table = ServeTable(**changes)
        thread = EngineThread(engine, table.max_batch, table.max_waiting, table.max_ttft, table.max_unread)
        template = chat_template(model, table, engine.tokenizer)
        served = Served(
            thread, engine.tokenizer, template, model.name, engine.context, adapters=engine.adapters.names,
            defaults=sampling_defaults(model, table), aliases=table.aliases,
        )  # fmt: skip
        app = create_app(served, table)
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=75, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        running.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        while httpx.get(f"{url}/health").status_code != 200:
            time.sleep(0.01)
        yield url
        server.should_exit = True
        running.join()

    return run


@dataclass(frozen=True)
class ServeProcess:
    """`troth serve` as a process of its own: what it said of itself, its address without /v1, where its log goes."""

    facts: dict[str, Any]
    url: str
    process: subprocess.Popen[str]
    log: Path

    def health(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/health").json()

    def free(self) -> bool:
        """Whether nothing runs and no block is held."""
        health = self.health()
        return health["running"] == 0 and health["free_cache_blocks"] == health["cache_blocks"]

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="session")
def serve_process(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """Server processes on free ports: `with serve_process("--set", "serve.max_batch=1") as process`."""

    @contextlib.contextmanager
    def run(*arguments: str, model: Path = folder, **environment: str) -> Iterator[ServeProcess]:
        log = tmp_path_factory.mktemp("serve") / "log"
        start = [sys.executable, "-c", "from troth.cli.main import main; main()", "serve", str(model), "--port", "0"]
        command = [*start, "--json", "--set", "serve.cache_tokens=8192", *arguments]
        environment = os.environ | environment
        with (
            log.open("w") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
        ):
            try:
                printed = ""
                while not printed.endswith("}\n"):
                    line = process.stdout.readline()
                    assert line, log.read_text()
                    printed += line
                facts = json.loads(printed)
                url = facts["url"].removesuffix("/v1")
                wait_until(lambda: _answers(f"{url}/health", facts["uds"]), 30)
                yield ServeProcess(facts, url, process, log)
            finally:
                process.kill()

    return run


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed one for 127.0.0.1, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("tls")
    made = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(path / "key.pem"), "-out", str(path / "certificate.pem")]
    subprocess.run([*made, *named, *files], check=True, capture_output=True)
    return path / "certificate.pem", path / "key.pem"


def _answers(url: str, uds: str | None) -> bool:
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=uds)) as client:
            return client.get(url).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Poll until a condition holds; fails where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def server(run_server: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    with run_server(max_batch=16, max_step_tokens=64) as url:
        yield url


@pytest.fixture(scope="session")
def talking(run_server: Callable[..., AbstractContextManager[str]], talker: Path) -> Iterator[str]:
    """The address of a server with the talker."""
    with run_server(talker, max_batch=16, max_step_tokens=256) as url:
        yield url


@pytest.fixture(scope="session")
def client(server: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0, timeout=30)
