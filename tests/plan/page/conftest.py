"""Two plans with their pages, made once by the command itself."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from troth.cli.plan import app

TRAIN = ["train", "--system", "flagship", "--gpus", "32768", "--set", "parallel.tp=8", "--set", "parallel.cp=1",
         "--set", "parallel.pp=8", "--tokens", "1T"]  # fmt: skip
SERVE = ["serve", "--system", "mini", "--users", "20000", "--regions", "eastus,frankfurt", "--requests", "400"]


class Parsed(HTMLParser):
    """Tables as rows of cells by caption, all text, and every element with its attributes; tags must match."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.caption, self.text = "", ""
        self.rows: list[list[str]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows, self.caption = [], ""
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data: str) -> None:
        self.text += data
        if "caption" in self.open:
            self.caption += data
        elif {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data


@dataclass(frozen=True)
class Made:
    """What `command` planned, as programs read it and as a page, and both files."""

    command: list[str]
    plan: dict[str, Any]
    page: str
    parsed: Parsed
    json_file: Path
    html_file: Path


def run(folder: Path, command: list[str]) -> Made:
    html_file, json_file = folder / f"{command[0]}.html", folder / f"{command[0]}.json"
    done = CliRunner().invoke(app, [*command, "--json", "--html", str(html_file)])
    assert done.exit_code == 0, done.output
    json_file.write_text(done.stdout, encoding="utf-8")
    page = html_file.read_text(encoding="utf-8")
    return Made(command, json.loads(done.stdout), page, Parsed(page), json_file, html_file)


@pytest.fixture(scope="session")
def make() -> Callable[[Path, list[str]], Made]:
    return run


@pytest.fixture(scope="session")
def parse() -> type[Parsed]:
    return Parsed


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return run(tmp_path_factory.mktemp("plans"), TRAIN)


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return run(tmp_path_factory.mktemp("plans"), SERVE)
