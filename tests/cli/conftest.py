"""The command line in this process: a start of its own costs seconds, mostly torch's."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from troth.cli.main import main


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """`run_here("show", "--json")` is what that command did."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["troth", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return Done(ended.value.code, told.out, told.err)

    return run
