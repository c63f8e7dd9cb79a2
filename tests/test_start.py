"""The command line answers at once, says what is wrong in one line, and an installed Troth has its data with it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import troth
from troth.system import load_system, named_systems

ROOT = Path(__file__).parents[1]
MAIN = "from troth.cli.main import main; main()"


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "module",
    [
        "troth.model.config",
        "troth.model.counts",
        "troth.system",
        "troth.cli.main",
        "troth.plan.serving.fleet",
        "troth.serve.engine.request",
        "troth.serve.engine.thread",
        "troth.serve.api.app",
    ],
)
def test_import_loads_no_torch(module: str) -> None:
    done = python(f"import sys, {module}; print('torch' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_help_answers_without_torch():
    code = f"import atexit, sys; atexit.register(lambda: print('torch loaded:', 'torch' in sys.modules)); {MAIN}"
    done = python(code, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert "torch loaded: False" in done.stdout


def test_python_m_troth_is_troth():
    command = [sys.executable, "-m", "troth", "plan", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "troth plan" in done.stdout


def test_every_verb_explains_itself():
    verbs = sorted(file.stem for file in (ROOT / "src/troth/cli").glob("*.py") if "\ndef command(" in file.read_text())
    assert verbs
    for verb in verbs:
        done = python(MAIN, verb, "--help")
        assert done.returncode == 0, done.stderr
        assert f" {verb} " in done.stdout


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = python(MAIN, "serve", str(tmp_path), "--set", "serve.port=everywhere")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("troth: ")
    assert done.stderr.count("\n") == 1
    assert "serve.port" in done.stderr
    assert "everywhere" in done.stderr


@pytest.mark.parametrize("name", named_systems())
def test_named_systems_load(name: str) -> None:
    assert load_system(name).train.steps > 0


@pytest.mark.slow
def test_the_wheel_has_all_files(tmp_path: Path) -> None:
    """Built with the setuptools that is installed, from a copy, so that nothing is fetched and nothing is left here."""
    patterns = ["pyproject.toml", "setup.py", "README.md", "LICENSE", "src"]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [file for file in listed.stdout.splitlines() if (ROOT / file).is_file()]
    for file in files:
        copy = tmp_path / "copy" / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / file).read_bytes())
    build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", f"--wheel-dir={tmp_path}"]
    subprocess.run([sys.executable, "-m", *build, str(tmp_path / "copy")], check=True)
    (wheel,) = tmp_path.glob(f"troth-{troth.__version__}-*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    assert {file.removeprefix("src/") for file in files if file.startswith("src/")} <= set(inside)
