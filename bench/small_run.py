"""The small run that gets hurt: `troth train` on two ranks under torchrun, on the pages that Troth brings along."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import troth

RATES = "tokens_per_second", "seconds_per_step", "seconds", "mfu"
_SETTINGS = {
    "data.weights": "{library=1.0}", "model.vocab_size": 512, "model.hidden_size": 64, "model.num_attention_heads": 2,
    "model.moe_intermediate_size": 32, "train.batch_tokens": 1024, "train.sequence_length": 128, "train.steps": 60,
    "train.checkpoint_every": 5, "train.log_every": 1, "parallel.dp_shard": 2, "parallel.ep": 2,
}  # fmt: skip


def write_documents(path: Path) -> None:
    """The pages as one file."""
    pages = sorted((Path(troth.__file__).parent / "library" / "pages").rglob("*.md"))
    lines = [json.dumps({"text": page.read_text(), "collection": "library"}) for page in pages]
    path.write_text("\n".join(lines), encoding="utf-8")


def start(
    documents: Path, run: Path, log: IO[str], restarts: int = 3, variables: dict[str, str] | None = None, **changes: Any
) -> subprocess.Popen:
    """Begin the run or go on with it; `changes` are settings, with `__` for the dot."""
    settings = _SETTINGS | {name.replace("__", "."): value for name, value in changes.items()}
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        f"--max-restarts={restarts}", "--no-python", Path(sys.executable).with_name("troth"), "train", documents,
        "--out", run, "--system", "nano", *(f"--set={name}={value}" for name, value in settings.items()),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (variables or {})
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def reports(run: Path) -> list[dict[str, float]]:
    """What the run has reported so far; without a line that is just being written."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]
