"""`troth export`: one line, or JSON, says what was written; a mistake is one line too."""

import json
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from troth.model.decoder import Decoder
from troth.model.families.configs import to_hf_config
from troth.model.families.weights import save_weights
from troth.model.initialise import initialise
from troth.model.tokenizer import Tokenizer
from troth.system import load_system


@pytest.fixture
def export(run_here):
    return partial(run_here, "export")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "nano"
    path.mkdir()
    config = load_system("nano", ["model.vocab_size=400"]).model
    tokenizer = Tokenizer.train(iter([Path(json.__file__).read_text(encoding="utf-8")]), 400)
    model = initialise(Decoder(config), 0)
    save_weights(model, to_hf_config(config, "float32", tokenizer.end_of_text), path)
    tokenizer.save(path)
    return path


def test_one_line_says_what_was_written(folder, tmp_path):
    code = "from troth.cli.main import main; main()"
    command = [sys.executable, "-c", code, "export", folder, "--gguf", tmp_path / "nano.gguf", "--type", "q8_0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    size = (tmp_path / "nano.gguf").stat().st_size
    assert done.stdout == f"{tmp_path}/nano.gguf: {size / 1e6:.1f} MB, 78 tensors (q8_0)\n"
    # nano's second layer is blind to positions, as only every fourth is in llama.cpp.
    assert done.stderr.startswith("2 of the 4 layers in the file change nothing")
    assert done.stderr.count("\n") == 1


def test_programs_read_the_same(export, folder, tmp_path):
    path = tmp_path / "nano.gguf"
    done = export(folder, "--gguf", path, "--json")
    assert json.loads(done.stdout) == {
        "path": str(path), "bytes": path.stat().st_size, "tensors": 78, "layers": 4, "empty": 2, "rounded": False,
        "type": "bf16",
    }  # fmt: skip


def test_a_disk_that_is_full_is_told_with_the_file(export, folder, tmp_path):
    path, limits = tmp_path / "nano.gguf", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        done = export(folder, "--gguf", path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"troth: {path}: cannot be written, which a full disk would explain (" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere", "--gguf", "a.gguf"], "nowhere: no such folder"),
        (["{folder}", "--gguf", "{folder}"], "{folder}: is a folder"),
        (["{folder}", "--gguf", "{folder}/no/a.gguf"], "{folder}/no/a.gguf: its folder does not exist"),
        (["{folder}", "--gguf", "{folder}/a.gguf", "--type", "q4"], "--type q4: known are bf16, q8_0, f32"),
        (["{folder}/..", "--gguf", "{folder}/a.gguf"], "config.json"),
    ],
)
def test_a_mistake_is_one_line(export, folder, arguments, told):
    done = export(*(word.format(folder=folder) for word in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("troth: ")
    assert told.format(folder=folder) in done.stderr
    assert done.stderr.count("\n") == 1
