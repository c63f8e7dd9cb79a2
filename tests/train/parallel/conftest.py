"""Runs of a small network over ranks that are real processes, and the same run of one process."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from troth.model.config import ModelConfig
from troth.model.tokenizer import Tokenizer
from troth.system import TrainTable
from troth.train.shards import write_shards

WORKER = Path(__file__).parent / "worker.py"
FORKED = Path(__file__).parents[1] / "forked.py"
RATES = "tokens_per_second", "seconds_per_step", "seconds", "mfu"


@pytest.fixture(scope="session")
def small(tiny: ModelConfig) -> ModelConfig:
    """Four layers, eight experts, and sizes that two divides."""
    changes = {
        "num_hidden_layers": 4, "num_experts": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "tie_word_embeddings": False,
    }  # fmt: skip
    return tiny.model_copy(update=changes)


@pytest.fixture(scope="session")
def proof(recipe: Callable[..., TrainTable]) -> Callable[..., TrainTable]:
    """Twenty steps of 24 rows, with everything that may go wrong over ranks."""
    return lambda **changes: recipe(
        **({
            "steps": 20, "batch_tokens": 24 * 32, "precision": "float64", "z_loss": 1e-4, "weight_decay": 0.1,
            "balance_rate": 1e-2, "checkpoint_every": 99,
        } | changes)
    )  # fmt: skip


@pytest.fixture(scope="session")
def held_out(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a few texts that fill a number of rows which no number of ranks divides."""
    folder = tmp_path_factory.mktemp("held-out")
    texts = "A watched pot never boils. " * 5, "Time and tide wait for no man. " * 9, "Too many cooks spoil the broth."
    write_shards([(name, text) for name, text in zip(("one", "two", "two"), texts, strict=True)], tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def over_ranks(
    tokenizer: Tokenizer, shards: Path, held_out: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """`over_ranks(world, cases)` trains each case over so many processes, of a torchrun where one `fails`; returns what
    they said."""

    def run(world: int, cases: list[dict[str, Any]], fails: bool = False) -> str:
        home = tmp_path_factory.mktemp("job")
        tokenizer.save(home)
        told = {
            "tokenizer": str(home), "shards": str(shards), "weights": {"prose": 0.75, "pages": 0.25},
            "held_out": str(held_out),
        }  # fmt: skip
        starts: list[str | Path] = []
        # Each layout leaves gloo some sixty threads, which wake a hundred times a second: ranks begin anew after a few.
        for first in range(0, len(cases), 4):
            job = home / f"{first}.json"
            job.write_text(json.dumps(told | {"cases": cases[first : first + 4]}))
            starts += ["--", job]
        command: list[str | Path] = [sys.executable, FORKED, str(world), WORKER, *starts]
        if fails:
            [_, job] = starts
            torchrun = "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"
            command = [sys.executable, *torchrun, WORKER, job]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        assert (done.returncode != 0) == fails, done.stderr[-5000:]
        return done.stderr

    return run


def case(run: Path, model: ModelConfig, train: TrainTable, parallel: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One case for `over_ranks`."""
    return {"run": str(run), "model": model.model_dump(), "train": train.model_dump(), "parallel": parallel, **more}


def reports(run: Path) -> list[dict[str, float]]:
    """What a run reported at each step, but for the rates."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in RATES} for line in lines]


def deviation(run: Path, reference: Path) -> float:
    """The largest relative difference of losses, those of what is held out too, and norms; what counts experts must be
    the same."""
    worst = 0.0
    for ours, theirs in zip(reports(run), reports(reference), strict=True):
        assert ours["dead_experts"] == theirs["dead_experts"]
        assert ours["load_entropy"] == pytest.approx(theirs["load_entropy"], abs=1e-6)
        assert ours.keys() == theirs.keys()
        for key in ("loss", "grad_norm", *(key for key in ours if key.startswith("held_out_loss"))):
            worst = max(worst, abs(ours[key] / theirs[key] - 1))
    return worst
