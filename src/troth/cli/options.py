"""Options that every verb takes, and how they become a system."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from troth.system import System, load_system

SystemName = Annotated[
    str, typer.Option("--system", help="A named system (see README) or the path of a TOML file.", metavar="NAME|FILE")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one value of the system; may be repeated.", metavar="TABLE.KEY=VALUE"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON for programs.")]

Ledger = Annotated[
    Path, typer.Option("--ledger", help="The folder that `troth curate --out` or a cycle wrote.", metavar="DIR")
]


def read_ledger_path(folder: Path) -> Path:
    """The ledger in the folder of a curation or of a cycle; the ledger's own folder will do. Raises ValueError where
    there is none."""
    for path in (folder / "ledger", folder / "curated" / "ledger", folder):
        if (path / "generations.lance").is_dir():
            return path
    raise ValueError(f"{folder}: no ledger; name the folder that `troth curate --out` wrote")


def read_system(name: str, changes: list[str] | None) -> System:
    """The system a verb runs with. Raises ValueError, as `load_system` does."""
    return load_system(name, changes or ())


def print_json(result: Any) -> None:
    """One JSON value on standard output."""
    print(json.dumps(result, indent=2, ensure_ascii=False), flush=True)
