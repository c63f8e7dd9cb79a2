"""A stage of curation over its parts, in this process or on datatrove's executors: local processes, Ray or Slurm.

What is done and what failed is told by files beside the parts, so it means the same wherever a part was worked on, and
no process but the one that started the run has to survive. Workers run below a supervisor of their own
(`supervise.py`), which ends with all of them as soon as this process does.
"""

import os
import pickle
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Literal

from troth.curate.memory import sweep
from troth.curate.parts import Parts
from troth.curate.progress import Progress

_BEAT, _SILENCE = 10.0, 600.0
"""Seconds between two signs of life of a worker, and without one until it counts as lost."""
_GRACE = 10.0
"""Seconds that an executor has to clean up after its last part."""
# Not as the main module, for what executors pickle must be importable by its name.
_SUPERVISOR = "import sys; from troth.curate.supervise import main; main(sys.argv[1])"


@dataclass(frozen=True)
class Executor:
    """Where parts are worked on, and how many at once; 0 workers are as many as there are cores.

    `ray` uses the cluster that the environment variable RAY_ADDRESS names, or starts one on this machine. `slurm` takes
    partition, time limit, memory and account from sbatch's own variables, such as SBATCH_PARTITION.
    """

    kind: Literal["local", "ray", "slurm"] = "local"
    workers: int = 0


@dataclass(frozen=True)
class Job:
    """What a supervisor needs to know of a stage."""

    work: Callable[[int], None]
    parts: Parts
    todo: tuple[int, ...]
    how: Executor
    cwd: str

    @property
    def workers(self) -> int:
        """How many parts are worked on at once."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(self.how.workers or cores, len(self.todo))


def run_stage(
    name: str, work: Callable[[int], None], parts: int, out: Path, how: Executor = Executor(), *,
    total_bytes: int = 0, shown: bool = True,
) -> None:  # fmt: skip
    """Call `work` for every part of the stage `name` that is not done yet; `work` marks a part as done by itself.

    `work` must be importable where it runs: a module's function, or a `functools.partial` of one. Nothing is started
    for a single part or a single local worker. `total_bytes` lets the progress tell the time left; see `Counter`.
    A part that fails leaves the others alone. Raises ValueError at the end, naming the parts that failed and why.
    """
    stage = Parts(out.resolve(), name)
    todo = tuple(part for part in range(parts) if not stage.is_done(part))
    if not todo:
        return
    for part in todo:
        for table in ("error", "alive"):
            stage.file(part, table, "txt").unlink(missing_ok=True)
    job = Job(work, stage, todo, how, os.getcwd())
    with Progress(name, stage, parts, total_bytes, shown):
        if how.kind == "local" and job.workers == 1:
            for part in todo:
                do_part(work, stage, part)
        else:
            _supervised(job)
    failed = {part: _error(stage, part) for part in todo if not stage.is_done(part)}
    if failed:
        part, why = next(iter(failed.items()))
        more = f" (and {len(failed) - 1} more parts)" if len(failed) > 1 else ""
        raise ValueError(f"{name}, part {part} of {parts}: {why}{more}; the same command again goes on from here")


def do_part(work: Callable[[int], None], parts: Parts, part: int) -> None:
    """Work on one part; an error is left in a file beside it instead of being raised."""
    if parts.is_done(part):
        return
    with _alive(parts.file(part, "alive", "txt")):
        try:
            work(part)
        except Exception as error:
            told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            line = " ".join(told.split()) or type(error).__name__
            _put_error(parts, part, f"{line}\n\n{traceback.format_exc()}")
    sweep()


@contextmanager
def _alive(file: Path) -> Iterator[None]:
    """Keep a file that tells who works on a part, and by its date that the worker lives."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{os.getpid()} {platform.node()}", encoding="utf-8")
    done = Event()

    def beat() -> None:
        while not done.wait(_BEAT):
            file.touch()

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        file.unlink(missing_ok=True)


def _supervised(job: Job) -> None:
    """Start a supervisor, and end it when every part is done, has failed, or has lost its worker."""
    folder = job.parts.folder
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "log", ignore_errors=True)
    description = folder / "job.pickle"
    description.write_bytes(pickle.dumps(job))
    command = [sys.executable, "-c", _SUPERVISOR, str(description)]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": os.environ.get("RAY_USAGE_STATS_ENABLED", "0")}
    with (folder / "log.txt").open("wb") as log:
        supervisor = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=environment
        )  # fmt: skip
    try:
        left = set(job.todo)
        lost = False
        last = time.monotonic()
        while left and supervisor.poll() is None:
            time.sleep(0.05 + len(left) / 5000)  # looking at thousands of parts takes a while itself
            left = {part for part in left if not _settled(job.parts, part)}
            if time.monotonic() - last > 1:
                lost |= _find_lost(job.parts, left)
                last = time.monotonic()
        if left:
            _blame(job.parts, left, folder / "log.txt")
        elif not lost and job.how.kind != "local":
            with suppress(subprocess.TimeoutExpired):
                supervisor.wait(_GRACE)
    finally:
        # The supervisor ends whatever it started when this pipe closes, also if it is this process that ends.
        if supervisor.stdin:
            supervisor.stdin.close()
        with suppress(ProcessLookupError):
            os.killpg(supervisor.pid, signal.SIGKILL)
        supervisor.wait()
        for part in job.todo:
            job.parts.file(part, "alive", "txt").unlink(missing_ok=True)
    description.unlink()
    shutil.rmtree(folder / "log", ignore_errors=True)


def _settled(parts: Parts, part: int) -> bool:
    return parts.is_done(part) or parts.file(part, "error", "txt").exists()


def _find_lost(parts: Parts, left: set[int]) -> bool:
    """Record the parts whose worker was killed, since executors do not tell of them and would wait for ever."""
    found = False
    for part in left:
        file = parts.file(part, "alive", "txt")
        try:
            pid, _, host = file.read_text(encoding="utf-8").partition(" ")
            silent = time.time() - file.stat().st_mtime
        except OSError:
            continue
        gone = host == platform.node() and pid.isdecimal() and not _exists(int(pid))
        if (gone or silent > _SILENCE) and file.exists() and not _settled(parts, part):
            _put_error(parts, part, "its worker was killed; perhaps memory ran out, so try fewer workers")
            found = True
    return found


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _blame(parts: Parts, left: set[int], log: Path) -> None:
    """Parts that no worker came to, because the executor itself failed."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    told = f"not done, for the executor failed: {lines[-1] if lines else 'it was killed'} (see {log})"
    for part in left:
        if not _settled(parts, part):
            _put_error(parts, part, told)


def _put_error(parts: Parts, part: int, told: str) -> None:
    parts.file(part, "error", "txt").write_text(told, encoding="utf-8", errors="replace")


def _error(parts: Parts, part: int) -> str:
    try:
        return parts.file(part, "error", "txt").read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        return "not done, though no error was reported"
