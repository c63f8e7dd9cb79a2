"""What README and docs/ show exists: verbs, options, keys of system files, links, scripts, tests and metrics."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import typer
from pydantic import BaseModel
from rich.text import Text

from troth.cli.main import app
from troth.model.config import ModelConfig
from troth.system import CurateTable, System

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
VERBS = typer.main.get_command(app).commands
VERBS |= {f"plan {name}": verb for name, verb in VERBS.pop("plan").commands.items()}


def options(verb: str) -> set[str]:
    return {name for parameter in VERBS[verb].params for name in parameter.opts} | {"--help"}


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """(verb, options) of each command that is shown, in blocks and in the text."""
    for found in re.finditer(r"\btroth ((?:plan )?[a-z]+)\b([^\n`|#]*)", text.replace("\\\n", " ")):
        yield found[1], re.findall(r"(?<![\w-])--[a-z][\w-]*", found[2])


def keys(table: type[BaseModel], before: str) -> Iterator[str]:
    for name, field in table.model_fields.items():
        yield before + (field.alias or name)
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from keys(inner, f"{before}{field.alias or name}.")


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_exists(page):
    text, wrong = page.read_text(), []
    for verb, given in commands(text):
        if verb != "plan" and (verb not in VERBS or not set(given) <= options(verb)):
            wrong.append(f"troth {verb} {' '.join(given)}")
    known = set(keys(System, ""))
    for key in re.findall(rf"(?<![\w./-])(?:{'|'.join(System.model_fields)})(?:\.[a-z_]+)+", text):
        if key not in known and key not in ("data.toml", "model.config", "serve.engine"):
            wrong.append(key)
    for link, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#?([^)\s]*)\)", text):
        target = page.parent / link if link else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(f"{link}#{anchor}")
    for name, given in re.findall(r"\b(bench/\w+\.py)([^\n`|]*)", text):
        source = (ROOT / name).read_text() if (ROOT / name).exists() else ""
        if not source or any(f'"{option}"' not in source for option in re.findall(r"--[a-z][\w-]*", given)):
            wrong.append(name + given)
    wrong += [name for name in re.findall(r"\btests/[\w/]+(?:\.py)?", text) if not (ROOT / name).exists()]
    assert not wrong


def test_settings_of_filters_are_keys():
    table = re.findall(r"^\|.*\| ([^|]*) \|$", (ROOT / "docs/filters.md").read_text(), re.MULTILINE)
    named = {name for cell in table for name in re.findall(r"`(\w+)[^`]*`", cell)}
    assert len(named) > 10
    assert named - CurateTable.model_fields.keys() <= {"lenient"}


def test_verbs_of_the_readme_are_all():
    shown = set(re.findall(r"`(?:troth )?((?:plan )?[a-z]+)\b", (ROOT / "README.md").read_text()))
    assert shown >= VERBS.keys()


def test_help_is_shown_as_it_is_written():
    """Rich reads words in square brackets as styles and leaves them out."""
    for verb in VERBS.values():
        for told in (verb.help, *(getattr(parameter, "help", None) for parameter in verb.params)):
            assert told is None or Text.from_markup(told).plain == told


def test_every_key_is_explained_beside_it():
    """In the docstring of its table, or in one of its own below it."""
    for name, field in System.model_fields.items():
        table = field.annotation
        if table is ModelConfig:
            continue
        source = (ROOT / "src/troth/system" / f"{name}.py").read_text()
        for key, inner in table.model_fields.items():
            told = re.search(rf"\n    {key}: [^\n]*(?:\n        [^\n]*)*(?:\n    \))?\n    \"\"\"", source)
            assert told or re.search(rf"`{inner.alias or key}`|\b{key}:", table.__doc__), f"{name}.{key}"
