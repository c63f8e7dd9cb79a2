"""A stage over its parts: one result from every executor, errors that leave the rest alone, nothing left running."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

from troth.curate.collect import collect_part, plan_collect
from troth.curate.document import Document
from troth.curate.execute import Executor, run_stage
from troth.curate.parts import Parts

WORKS = """
import os, signal, time
from pathlib import Path
from troth.curate.parts import Parts

def note(part, out):
    with (out / "calls").open("a") as calls:
        calls.write(f"{part} {os.getpid()}\\n")
    Parts(out, "odd").finish(part)

def fail_at_two(part, out):
    if part == 2:
        raise ValueError("a.txt changed\\nsince then")
    note(part, out)

def killed_at_one(part, out):
    if part == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    note(part, out)

def sleep(part, out):
    (out / f"pid-{part}").write_text(str(os.getpid()))
    time.sleep(60)
"""


@pytest.fixture
def works(tmp_path, monkeypatch):
    """A module that workers can import, as they can those of Troth."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "works_of_a_test.py").write_text(WORKS)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    import works_of_a_test

    yield works_of_a_test
    del sys.modules["works_of_a_test"]


def calls(out: Path) -> list[list[str]]:
    return [line.split() for line in (out / "calls").read_text().splitlines()]


def collected(sources: Path, out: Path, how: Executor) -> list[Document]:
    plan = plan_collect([str(sources)], out, part_bytes=40_000)
    assert plan.parts == 3
    run_stage("collect", partial(collect_part, out=out), plan.parts, out, how, total_bytes=plan.bytes, shown=False)
    parts = Parts(out, "collect")
    return [document for part in range(plan.parts) for document in parts.read(part, "documents", Document)]


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "sources"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"Page number {number} says a thing or two. " * 10)
    return folder


def test_one_worker_and_two_give_the_same(tmp_path, sources):
    alone = collected(sources, tmp_path / "one", Executor(workers=1))
    assert [document.source for document in alone] == [f"{number}.txt" for number in range(6)]
    assert collected(sources, tmp_path / "two", Executor(workers=2)) == alone
    left = {path.name.split(".")[1] for path in (tmp_path / "two" / "work" / "collect").glob("0*")}
    assert left == {"documents", "rejected", "count", "done"}


def test_ray_gives_the_same(tmp_path, sources, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    alone = collected(sources, tmp_path / "one", Executor(workers=1))
    assert collected(sources, tmp_path / "ray", Executor("ray", 2)) == alone
    assert not [line for line in processes() if "raylet" in line and str(os.getpid()) in line]


def processes() -> list[str]:
    return subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True, check=True).stdout.splitlines()


SBATCH = """
    #!/bin/bash
    # Runs each task of an array job in turn, as Slurm would on its nodes.
    script="${@: -1}"
    cp "$script" "$SLURM_TEST/script"
    echo "$@" >> "$SLURM_TEST/arguments"
    last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
    for task in $(seq 0 "$last"); do
        SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=here RUN_OFFSET=0 bash "$script" >> "$SLURM_TEST/output" 2>&1
    done
    echo "Submitted batch job 7"
"""


def test_slurm_gives_the_same(tmp_path, sources, monkeypatch):
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, script in {"sbatch": SBATCH, "scontrol": "#!/bin/bash\necho here", "squeue": "#!/bin/bash"}.items():
        (binaries / name).write_text(textwrap.dedent(script).lstrip())
        (binaries / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_TEST", str(tmp_path))
    alone = collected(sources, tmp_path / "one", Executor(workers=1))
    assert collected(sources, tmp_path / "slurm", Executor("slurm", 2)) == alone
    script = (tmp_path / "script").read_text()
    assert "#SBATCH --array=0-2%2\n" in script
    assert "#SBATCH --partition" not in script
    assert (tmp_path / "arguments").read_text().count("\n") == 1


def test_slurm_without_slurm_says_so(tmp_path, sources, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="there is no sbatch on this machine"):
        collected(sources, tmp_path / "slurm", Executor("slurm"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_part_that_fails_leaves_the_others_alone_and_is_done_next_time(tmp_path, works, workers):
    out = tmp_path / "out"
    out.mkdir()
    told = "^odd, part 2 of 4: a.txt changed since then; the same command again goes on from here$"
    with pytest.raises(ValueError, match=told):
        run_stage("odd", partial(works.fail_at_two, out=out), 4, out, Executor(workers=workers), shown=False)
    assert sorted(part for part, _ in calls(out)) == ["0", "1", "3"]
    run_stage("odd", partial(works.note, out=out), 4, out, Executor(workers=workers), shown=False)
    assert sorted(part for part, _ in calls(out)) == ["0", "1", "2", "3"]
    assert ({int(pid) for _, pid in calls(out)} == {os.getpid()}) == (workers == 1)


def test_a_worker_that_is_killed_is_noticed(tmp_path, works):
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ValueError, match=r"^odd, part 1 of 4: its worker was killed; perhaps memory"):
        run_stage("odd", partial(works.killed_at_one, out=out), 4, out, Executor(workers=2), shown=False)
    assert sorted(part for part, _ in calls(out)) == ["0", "2", "3"]


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_nothing_outlives_a_run_that_was_killed(tmp_path, works, kind):
    if kind == "ray":
        pytest.importorskip("ray")
    out = tmp_path / "out"
    out.mkdir()
    program = f"""
        from functools import partial
        from pathlib import Path
        import works_of_a_test
        from troth.curate.execute import Executor, run_stage
        out = Path({str(out)!r})
        run_stage("odd", partial(works_of_a_test.sleep, out=out), 2, out, Executor({kind!r}, 2), shown=False)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)]) as run:
        try:
            wait_for(lambda: len(list(out.glob("pid-*"))) == 2, 60)
            time.sleep(0.1)
            workers = [int(file.read_text()) for file in out.glob("pid-*")]
            supervisor = int(subprocess.check_output(["pgrep", "-P", str(run.pid), "-f", "supervise"]).split()[0])
            assert os.getpgid(supervisor) == supervisor
        finally:
            run.kill()
    wait_for(lambda: not any(map(runs, [supervisor, *workers])) and not group(supervisor), 10)
    wait_for(lambda: not [line for line in processes() if f"--monitor-pid {supervisor}" in line], 10)


def group(leader: int) -> list[str]:
    listed = subprocess.run(["pgrep", "-g", str(leader), "-r", "R,S,D"], capture_output=True, text=True, check=False)
    return listed.stdout.split()


def runs(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(listed.stdout.strip()) and not listed.stdout.strip().startswith("Z")


def wait_for(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "still not so"
        time.sleep(0.1)


def test_an_interrupted_run_ends_its_workers(tmp_path, works):
    out = tmp_path / "out"
    out.mkdir()
    # A shell's background jobs are started with this signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        wait_for(lambda: len(list(out.glob("pid-*"))) == 2, 60)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_stage("odd", partial(works.sleep, out=out), 2, out, Executor(workers=2), shown=False)
    finally:
        signal.signal(signal.SIGINT, before)
    workers = [int(file.read_text()) for file in out.glob("pid-*")]
    assert workers
    wait_for(lambda: not any(map(runs, workers)), 5)
