"""Loading a system: a named or given TOML file, changed by `--set table.key=value`, checked by pydantic."""

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from pydantic import ValidationError

from troth.model.config import ModelConfig
from troth.system.curate import CurateTable
from troth.system.cycle import CycleTable
from troth.system.data import DataTable
from troth.system.parallel import ParallelTable
from troth.system.serve import ServeTable
from troth.system.table import Table
from troth.system.train import TrainTable


class System(Table):
    """Everything that a run depends on, one table a part."""

    data: DataTable
    curate: CurateTable = CurateTable()
    model: ModelConfig
    train: TrainTable
    parallel: ParallelTable = ParallelTable()
    cycle: CycleTable = CycleTable()
    serve: ServeTable = ServeTable()


def named_systems() -> list[str]:
    """Names of the systems that Troth ships."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.toml"))


def load_system(name_or_path: str, changes: Iterable[str] = ()) -> System:
    """Read a system and apply `table.key=value` changes, whose values are TOML (bare words count as text).

    Raises ValueError with one line that names the key, the value and what was expected.
    """
    shipped = Path(__file__).parent / f"{name_or_path}.toml"
    path = shipped if shipped.exists() else Path(name_or_path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(named_systems())
        raise ValueError(f"--system {name_or_path}: neither a readable file nor one of {known}") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error
    changes = list(changes)
    for change in changes:
        _apply(tables, change)
    try:
        return System.model_validate(tables)
    except ValidationError as error:
        given = "--set " if _was_changed(error, changes) else f"{path}: "
        raise ValueError(f"{given}{_first_problem(error)}") from error


def _was_changed(error: ValidationError, changes: list[str]) -> bool:
    """Whether a change bears on the first problem."""
    place = [str(part) for part in error.errors()[0]["loc"]]
    keys = [change.partition("=")[0].strip().split(".") for change in changes]
    return any(all(mine == theirs for mine, theirs in zip(key, place, strict=False)) for key in keys)


def _apply(tables: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ValueError(f"--set {change}: expected table.key=value, for example train.steps=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = tables
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ValueError(f"--set {change}: {part} is no table")
    table[parts[-1]] = value


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        table: Any = System
        for part in first["loc"][:-1]:
            # A number is a place in a list of tables; a table that may be left out is one of two annotations.
            table = get_args(table)[0] if isinstance(part, int) else table.model_fields[part].annotation
            if NoneType in get_args(table):
                table = get_args(table)[0]
        known = ", ".join(field.alias or name for name, field in table.model_fields.items())
        return f"{key}: unknown key; known here: {known}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("list_type", "tuple_type"):
        message = f"input should be a list, such as {json.dumps([first['input']], ensure_ascii=False, default=str)}"
    value = "" if isinstance(first["input"], dict) else f"={first['input']!r}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{key}{value}: {message[0].lower()}{message[1:]}{more}"
