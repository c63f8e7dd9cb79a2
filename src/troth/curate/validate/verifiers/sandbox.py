"""Running code that nobody vouches for: its own process without network, files or capabilities, bounded in time, memory
and output. Where the system grants no such process, nothing is run unless the caller asks for it."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

_CHILD = Path(__file__).with_name("sandboxed.py")
_MEMORY, _OUTPUT, _MARGIN = 1 << 29, 1 << 14, 2
"""Bytes that code may use and print, and seconds that starting may take."""


@dataclass(frozen=True)
class Ran:
    """What came of one example or program: the line it stands on (of an error, where it happened), what it printed, the
    error that ended it, and whether it printed what was expected."""

    line: int
    got: str
    failed: str
    same: bool


@dataclass(frozen=True)
class Sandbox:
    """Where code runs. `seconds` bounds its time; `unsafe` runs it without isolation, bounded all the same."""

    seconds: int = 5
    unsafe: bool = False

    def why_not(self) -> str:
        """Why nothing is run here; "" where code can run."""
        return "" if self.unsafe else _refusal()

    def run(self, source: str, kind: Literal["examples", "program"], hash_seed: int = 0) -> list[Ran] | None:
        """The results of all examples that were reached, or of the one program; None where it was stopped or died.

        Raises ValueError where the system grants no isolation.
        """
        if reason := self.why_not():
            raise ValueError(reason)
        answer = _start(source, kind, self.seconds, hash_seed, isolated=not self.unsafe)
        try:
            return None if answer is None else [Ran(**one) for one in answer["results"]]
        except (KeyError, TypeError):
            return None  # The code wrote something of its own.


@cache
def _refusal() -> str:
    if not sys.platform.startswith("linux"):
        return f"code is not run: {sys.platform} has no namespaces to isolate it (Linux has)"
    answer = _start("", "program", 5, 0, isolated=True)
    if answer is None or "results" not in answer:
        why = (answer or {}).get("refused", "the sandbox did not start")
        return f"code is not run: this system refuses to isolate it ({why})"
    return ""


def _start(source: str, kind: str, seconds: int, hash_seed: int, isolated: bool) -> dict[str, Any] | None:
    limits = {"seconds": seconds, "memory": _MEMORY, "output": _OUTPUT}
    # The result comes in a file, whose size the limits bound, and not through a pipe, which code could flood.
    with tempfile.TemporaryDirectory() as root, tempfile.TemporaryFile() as result:
        task = {"source": source, "kind": kind, "limits": limits, "isolated": isolated, "root": root}
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_CHILD), str(result.fileno())],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(result.fileno(),),
            env={"PYTHONHASHSEED": str(hash_seed)}, cwd=root, start_new_session=True,
        )  # fmt: skip
        try:
            process.communicate(json.dumps(task).encode(), timeout=seconds + _MARGIN)
        except subprocess.TimeoutExpired:
            return None
        finally:
            process.kill()
            process.wait()
        result.seek(0)
        text = result.read()
    try:
        answer = json.loads(text)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
