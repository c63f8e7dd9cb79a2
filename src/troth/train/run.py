"""The run folder: what a run was started with, enough to repeat it, and whether it may be continued."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from troth.model.config import ModelConfig
from troth.system import System, TrainTable
from troth.train.environment import code_version, environment

_FREE = {
    "activation_checkpointing", "export_dtype", "checkpoint_every", "keep_checkpoints", "log_every", "hang_seconds",
    "end_hanging", "on_spike", "eval_every",
}  # fmt: skip
"""What changes nothing of what a run learns; and what is done about a spike, since one that ended a run would do so
again."""


def open_run(
    run: Path, model: ModelConfig, train: TrainTable, data: dict[str, Any], system: System | None = None
) -> dict[str, Any]:
    """Create `run/run.json`, or check that it was started with the same settings, and return its record.

    `data` describes the tokens: sizes, weights, and versions such as checksums. `system` is recorded whole, but only
    `model`, `train` and `data` decide whether the run may go on; a setting that its record does not have yet counts as
    having its default, and a key of `data` as being what it is now; the folder of the weights that it began with may be
    spelled otherwise. Raises ValueError naming the first that differs.
    """
    settings = {
        "model": model.model_dump(mode="json"),
        "train": train.model_dump(mode="json", exclude=_FREE),
        "data": json.loads(json.dumps(data)),
    }
    path = run / "run.json"
    if path.exists():
        record = read_record(path)
        started = {
            "model": _filled(ModelConfig, record["settings"]["model"], f"{path}: model"),
            "train": _filled(TrainTable, record["settings"]["train"], f"{path}: train"),
            "data": settings["data"] | record["settings"]["data"],
        }
        for table, values in settings.items():
            for key, value in values.items():
                before = started[table][key]
                if before != value and not (key == "start" and Path(before).resolve() == Path(value).resolve()):
                    raise ValueError(
                        f"{run}: was started with {table}.{key}={before!r}, not {value!r}; "
                        f"use those settings, or another folder (--branch {run} begins there where this run stands)"
                    )
        return record
    run.mkdir(parents=True, exist_ok=True)
    record = {
        "code": code_version(),
        "environment": environment(),
        "settings": settings,
        "system": system and system.model_dump(mode="json"),
        "history": [],
    }
    save_record(path, record)
    return record


def read_record(path: Path) -> dict[str, Any]:
    """The record of a run. Raises ValueError where `path` is not that of one."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if missing := [table for table in ("model", "train", "data") if table not in record["settings"]]:
            raise KeyError(missing[0])
    except (OSError, ValueError, KeyError, TypeError) as error:
        mend = "; delete it, and the run goes on" if path.exists() else ""
        raise ValueError(f"{path}: not the record of a run ({error!r}){mend}") from error
    return record


def recorded_settings(run: Path, record: dict[str, Any]) -> tuple[ModelConfig, TrainTable, dict[str, Any]]:
    """The network, the recipe and the tokens that a run was started with. Raises ValueError where this version of Troth
    does not take one."""
    told = record["settings"]
    model = _filled(ModelConfig, told["model"], f"{run}/run.json: model")
    train = _filled(TrainTable, told["train"], f"{run}/run.json: train")
    return ModelConfig.model_validate(model), TrainTable.model_validate(train), told["data"]


def _filled(table: type[BaseModel], recorded: dict[str, Any], where: str) -> dict[str, Any]:
    """Recorded settings, with defaults for those that came later."""
    try:
        return table.model_validate(recorded).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}.{key}: this version of Troth does not take it ({first['msg']})") from error


def checkpoints_of(run: Path, train: TrainTable) -> str:
    """The folder or URL of a run's checkpoints."""
    return train.checkpoints or str(run / "checkpoints")


def add_to_history(run: Path, record: dict[str, Any], step: int, held_out: dict[str, str]) -> None:
    """Record that the run goes on from `step` now, by whom, and the versions of what is `held_out`; code and
    environment if they are not as they were last."""
    history = record.setdefault("history", [])
    now = {"code": code_version(), "environment": environment()}
    last = {key: value for past in (record, *history) for key, value in past.items() if key in now}
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "world_size": now["environment"]["world_size"],
        "from_step": step,
        "held_out": held_out,
    }
    history.append(entry | {key: value for key, value in now.items() if value != last.get(key)})
    save_record(run / "run.json", record)


def save_record(path: Path, record: dict[str, Any]) -> None:
    """Write JSON that appears whole or not at all, however the program ends."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=2))
    os.replace(partial, path)
