"""The run folder: what a run was started with, enough to repeat it, and whether it may be continued."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

import troth
from troth.model.config import ModelConfig
from troth.system import TrainTable

_FREE = {"checkpoint_every", "keep_checkpoints", "log_every"}


def open_run(run: Path, model: ModelConfig, train: TrainTable, data: dict[str, Any]) -> dict[str, Any]:
    """Create `run/run.json`, or check that it was started with the same settings, and return its record.

    `data` describes the tokens (sizes and weights). Raises ValueError naming the first setting that differs.
    """
    settings = {"model": model.model_dump(), "train": train.model_dump(exclude=_FREE), "data": data}
    path = run / "run.json"
    if path.exists():
        record = json.loads(path.read_text())
        for table, values in json.loads(json.dumps(settings)).items():
            for key, value in values.items():
                if record["settings"][table].get(key) != value:
                    raise ValueError(
                        f"{run}: was started with {table}.{key}={record['settings'][table].get(key)!r}, not {value!r}; "
                        "use those settings or another folder"
                    )
        return record
    run.mkdir(parents=True, exist_ok=True)
    environment = {"python": platform.python_version(), "platform": platform.platform(), "torch": torch.__version__}
    record = {"troth": troth.__version__, "environment": environment, "settings": settings}
    save_record(path, record)
    return record


def save_record(path: Path, record: dict[str, Any]) -> None:
    """Write JSON that appears whole or not at all, however the program ends."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=2))
    os.replace(partial, path)
