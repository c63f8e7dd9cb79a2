"""A real text of a few hundred sentences, its tokenizer and shards, and a network small enough to train in a second."""

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from troth.model.config import ModelConfig
from troth.model.tokenizer import Tokenizer
from troth.system import TrainTable
from troth.train.job import Rows, documents_job
from troth.train.metrics import Metrics
from troth.train.shards import write_shards
from troth.train.trainer import train

VOCABULARY = 400
PROVERBS = (
    "A bird in the hand is worth two in the bush. All that glitters is not gold. The early bird catches the worm. "
    "Where there is smoke there is fire, and a rolling stone gathers no moss. A stitch in time saves nine. "
    "Rome was not built in 1 day. Practice makes perfect, haste makes waste, and many hands make light work. "
    "In 1492 Columbus sailed with 3 ships and about 90 men. When in Rome, do as the Romans do. "
)


# Not of Python's own library: it changes with the version, and what a small network learns of it with the text.
PAGES = "\n\n".join(
    page.read_text(encoding="utf-8")
    for page in sorted(Path(str(files("troth.library") / "pages/northgate-encyclopaedia")).glob("*.md"))
)[:20_000]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(iter([PROVERBS, PAGES]), VOCABULARY)


@pytest.fixture(scope="session")
def shards(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards([*[("prose", PROVERBS)] * 6, *[("pages", part) for part in PAGES.split("\n\n")]], tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def tiny() -> ModelConfig:
    return ModelConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_dense_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        num_shared_experts=1,
        sliding_window=16,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )


@pytest.fixture(scope="session")
def recipe() -> Callable[..., TrainTable]:
    """`recipe(steps=3)` is the small recipe with another number of steps."""
    small = {
        "steps": 12,
        "batch_tokens": 128,
        "sequence_length": 32,
        "fill_in_middle": 0.25,
        "precision": "float32",
        "checkpoint_every": 3,
        "log_every": 1,
    }
    return lambda **changes: TrainTable(**(small | changes))


@pytest.fixture(scope="session")
def run_training(tiny: ModelConfig, tokenizer: Tokenizer, shards: Path) -> Callable[..., Path]:
    """`run_training(folder, settings)` trains the small network and returns the folder of the model."""

    def run(
        folder: Path, settings: TrainTable, report: Callable[[Metrics], Any] = lambda metrics: None,
        model: ModelConfig = tiny, weights: dict[str, float] | None = None,
        change: Callable[[Rows], Rows] = lambda rows: rows, say: Callable[[str], None] = print, **more: Any,
    ) -> Path:  # fmt: skip
        job = documents_job(model, settings, weights or {"prose": 0.75, "pages": 0.25}, tokenizer, shards, **more)
        return train(replace(job, rows=change(job.rows)), folder, report, say=say)

    return run
