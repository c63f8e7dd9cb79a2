"""Which part may import which (import-linter's contracts in pyproject.toml), and what a bare GPU node must offer."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "troth"

# What a package may import of Troth; what those may import, it may import too.
MAY_IMPORT = {
    "library": [],
    "model": [],
    "system": ["model.config"],
    "curate": ["system"],
    "train": ["model", "system"],
    "plan": ["model", "system"],
    "security": ["system"],
    "serve": ["model", "system", "security"],
    "serve.engine": ["model", "system"],
    "evaluate": ["model", "serve.engine"],
    "cycle": ["curate", "train", "evaluate"],
}
PACKAGES = {folder.parent.name for folder in SOURCE.glob("*/__init__.py")}
BARE = {"numpy", "pydantic", "safetensors", "torch", "troth"}


def contracts() -> dict[str, dict[str, list[str]]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {contract["id"]: contract for contract in settings["tool"]["importlinter"]["contracts"]}


def closure(package: str) -> set[str]:
    reached: set[str] = set()
    waiting = [package]
    while waiting:
        for other in MAY_IMPORT.get(waiting.pop(), []):
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    return reached


def top_level_imports(code: str) -> set[str]:
    """First names of what a module imports when it is loaded: not in functions, not for type checkers alone."""

    def visit(statements: list[ast.stmt]) -> Iterator[str]:
        for statement in statements:
            match statement:
                case ast.Import(names=names):
                    yield from (alias.name.partition(".")[0] for alias in names)
                case ast.ImportFrom(module=module, level=level):
                    yield "troth" if level else str(module).partition(".")[0]
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    pass
                case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=orelse):
                    yield from visit(orelse)
                case ast.Try(handlers=handlers):
                    for block in (statement.body, statement.orelse, statement.finalbody, *(h.body for h in handlers)):
                        yield from visit(block)
                case ast.If() | ast.For() | ast.While():
                    yield from visit(statement.body + statement.orelse)
                case ast.ClassDef() | ast.With():
                    yield from visit(statement.body)

    return set(visit(ast.parse(code).body))


def test_packages_import_what_they_may() -> None:
    # In a process of its own, for it switches off the logs of all that is loaded.
    lint = Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "pyproject.toml", "--no-cache"
    found = subprocess.run(lint, check=False, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("package", sorted(PACKAGES - {"cli"}))
def test_each_contract_forbids_the_rest_of_troth(package: str) -> None:
    assert package in MAY_IMPORT, f"a new package needs a line here and a contract in pyproject.toml: {package}"
    allowed = closure(package)
    contract = contracts()[package]
    assert contract["source_modules"] == [f"troth.{package}"]
    assert set(contract["forbidden_modules"]) == {f"troth.{other}" for other in PACKAGES - allowed - {package}}
    parts = {f"troth.{part}" for part in allowed if "." in part and part.partition(".")[0] not in allowed}
    lifted = {line.partition(" -> ")[2].removesuffix(".**") for line in contract.get("ignore_imports", [])}
    assert lifted <= parts


def test_top_level_imports_leave_out_functions_and_types():
    code = """
import os.path
from typing import TYPE_CHECKING
from . import near
if TYPE_CHECKING:
    import rich
else:
    import left
try:
    import fast
except ImportError:
    import slow
class Holder:
    import held
    def use(self):
        import tiktoken
"""
    assert top_level_imports(code) == {"os", "typing", "troth", "left", "fast", "slow", "held"}


@pytest.mark.parametrize("package", ["model", "train", "serve/engine"])
def test_a_bare_gpu_node_can_load_it(package: str) -> None:
    files = sorted((SOURCE / package).rglob("*.py"))
    assert files
    beyond = {
        str(file.relative_to(SOURCE)): extra
        for file in files
        if (extra := top_level_imports(file.read_text(encoding="utf-8")) - BARE - sys.stdlib_module_names)
    }
    assert not beyond, "import these in the function that uses them"
