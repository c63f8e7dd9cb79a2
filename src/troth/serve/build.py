"""A model folder as a running application: the engine, its thread, and the API over both."""

import atexit
import gc
import sys
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI

from troth.model.chat_template import ChatTemplate
from troth.model.tokenizer import Tokenizer
from troth.security.keys import Keys
from troth.serve.api.app import create_app
from troth.serve.api.drain import Drain
from troth.serve.api.served import Served
from troth.serve.engine.engine import Engine
from troth.serve.engine.ranks import Ranks
from troth.serve.engine.sampling_params import default_sampling
from troth.serve.engine.thread import EngineThread
from troth.system.serve import ServeTable


def sampling_defaults(folder: Path, table: ServeTable) -> dict[str, float]:
    """How requests are sampled that leave it open. Raises ValueError as `default_sampling` does."""
    return default_sampling(folder) if table.generation_config == "auto" else {}


def chat_template(folder: Path, table: ServeTable, tokenizer: Tokenizer) -> ChatTemplate | None:
    """What chats are written by; None where neither table nor folder have one. Raises ValueError naming the file."""
    if table.chat_template is None:
        return ChatTemplate.from_folder(folder, tokenizer)
    try:
        return ChatTemplate(table.chat_template.read_text(encoding="utf-8"), tokenizer)
    except (OSError, ValueError) as error:
        raise ValueError(f"serve.chat_template={table.chat_template}: {error}") from error


def build_app(
    folder: Path, table: ServeTable, model_id: str, adapters: Mapping[str, Path], keys: Keys | None = None,
    drain: Drain | None = None, ranks: Ranks | None = None,
) -> tuple[FastAPI, Engine, EngineThread]:  # fmt: skip
    """Load a folder with its adapters by name and put the API over it; the thread starts with the application.

    Threads of the process then change over twice a millisecond where several have work: by Python's default, the
    engine's could wait 5 ms behind the events of the step before whenever it comes back from a product. And its search
    for cycles of garbage leaves out what is there by then, which lives as long as the process and of which torch alone
    brings 300,000 objects: all streams would stand still for a sixth of a second at a time.
    Raises ValueError as `sampling_defaults` and `Engine.from_folder` do.
    """
    sys.setswitchinterval(0.0005)
    defaults = sampling_defaults(folder, table)  # What is wrong there should not be told after minutes of loading.
    engine = Engine.from_folder(folder, table, adapters=adapters, ranks=ranks)
    template = chat_template(folder, table, engine.tokenizer)
    thread = EngineThread(engine, table.max_batch, table.max_waiting, table.max_ttft, table.max_unread)
    served = Served(
        thread, engine.tokenizer, template, model_id, engine.context, adapters=tuple(adapters),
        defaults=defaults, aliases=table.aliases,
    )  # fmt: skip
    app = create_app(served, table, keys, drain)
    gc.collect()
    gc.freeze()
    # At the end all of it goes; libraries would report what is left of theirs as leaks.
    atexit.register(gc.unfreeze)
    return app, engine, thread
