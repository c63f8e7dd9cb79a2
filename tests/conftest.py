"""Settings that every test runs under, and the command line without a process of its own."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import settings

from troth.cli.main import main

# Read when torch is loaded, here and in the processes that tests start. Small products are quickest on one thread, and
# tests beside each other do not wait for each other's; threads that spin slow a shared machine to a crawl.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# How long an example takes says nothing on a busy machine.
settings.register_profile("troth", deadline=None)
settings.load_profile("troth")


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """`run_here("show", "--json")` is what `troth show --json` did, in this process: a start takes seconds."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["troth", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return Done(ended.value.code, told.out, told.err)

    return run
