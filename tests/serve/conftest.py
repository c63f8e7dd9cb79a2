"""A small random model with a small tokenizer in a folder, engines over it, and real servers."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import openai
import pytest
import torch
import uvicorn

from troth.model.chat_template import ChatTemplate
from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.families.configs import to_hf_config
from troth.model.families.weights import save_weights
from troth.model.initialise import initialise
from troth.model.tokenizer import Tokenizer
from troth.serve.api.app import create_app
from troth.serve.api.served import Served
from troth.serve.engine.engine import Engine
from troth.serve.engine.thread import EngineThread
from troth.system.serve import ServeTable

VOCABULARY = 400
POSITIONS = 4096
PROVERBS = (
    "A bird in the hand is worth two in the bush. All that glitters is not gold. The early bird catches the worm; "
    "where there is smoke there is fire, and a rolling stone gathers no moss. Ein Unglück kommt selten allein. "
    "Practice makes perfect, haste makes waste, and many hands make light work. Écoute et répète. "
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products are quickest on one thread, and tests beside each other do not wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, config: ModelConfig) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    path.mkdir()
    model = initialise(Decoder(config), 5)
    # Routers that start at zero would send every token to the same experts.
    for moe in model.moe_layers():
        torch.nn.init.normal_(moe.router.gate.weight, std=0.2, generator=torch.Generator().manual_seed(6))
    save_weights(model, to_hf_config(config, "float32", tokenizer.end_of_text), path)
    tokenizer.save(path)
    return path


@pytest.fixture(scope="session")
def make_engine(folder: Path) -> Callable[..., Engine]:
    """Engines over the folder; keywords change the [serve] table."""

    def make(**changes: int) -> Engine:
        return Engine.from_folder(folder, ServeTable(**({"cache_tokens": 8192} | changes)))

    return make


@pytest.fixture(scope="session")
def run_server(make_engine: Callable[..., Engine], folder: Path) -> Callable[..., AbstractContextManager[str]]:
    """Real servers on free ports: `with run_server(max_batch=1) as url`."""

    @contextlib.contextmanager
    def run(**changes: int) -> Iterator[str]:
        engine = make_engine(**changes)
        table = ServeTable(**changes)
        thread = EngineThread(engine, table.max_batch, table.max_waiting, table.max_ttft)
        template = ChatTemplate.from_folder(folder, engine.tokenizer)
        app = create_app(Served(thread, engine.tokenizer, template, folder.name, engine.context), table)
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        running.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        while httpx.get(f"{url}/health").status_code != 200:
            time.sleep(0.01)
        yield url
        server.should_exit = True
        running.join()

    return run


@pytest.fixture(scope="session")
def server(run_server: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    with run_server(max_batch=16, max_step_tokens=64) as url:
        yield url


@pytest.fixture(scope="session")
def client(server: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0, timeout=30)
