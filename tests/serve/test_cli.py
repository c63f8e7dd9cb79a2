"""`troth chat`, and what `troth serve` refuses; as a server that runs it is in test_operations.py."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from troth.cli.main import app

TROTH = [sys.executable, "-c", "from troth.cli.main import main; main()"]


def test_chat_answers_lines_the_same_for_the_same_seed(folder: Path):
    command = ["chat", str(folder), "--max-tokens", "8", "--set", "serve.cache_tokens=64", "--seed"]
    said = "hello there\n\nonce more, and with enough words that the beginning is forgotten\n/exit\nnot read\n"
    once, again, other = (CliRunner().invoke(app, [*command, seed], input=said) for seed in "445")
    assert (once.exit_code, once.stderr) == (0, "")
    assert once.stdout.strip()
    assert once.stdout == again.stdout != other.stdout


def test_chat_prints_a_json_line_a_turn_for_programs(folder: Path):
    command = ["chat", str(folder), "--max-tokens", "8", "--seed", "4", "--json"]
    result = CliRunner().invoke(app, command, input="hello there\n\nonce more\n")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["role"] for answer in answers] == ["assistant", "assistant"]
    assert all(answer["finish_reason"] in ("stop", "length") for answer in answers)
    assert all(0 < answer["completion_tokens"] <= 8 for answer in answers)
    assert all(answer["prompt_tokens"] > 0 for answer in answers)


@pytest.fixture
def fails(run_here: Callable[..., Any]) -> Callable[..., str]:
    """Runs a command that cannot be done and returns what it says."""

    def run(*arguments: object) -> str:
        done = run_here(*arguments)
        assert done.returncode == 2
        return done.stderr

    return run


def test_mistakes_are_one_line_and_exit_code_2(fails: Callable[..., str], folder: Path, tmp_path: Path):
    missing = str(tmp_path / "nowhere")
    for verb in ("serve", "chat"):
        assert fails(verb, missing) == f"troth: {missing}: no such folder\n"
    assert "config.json" in fails("serve", tmp_path, "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        error = fails("serve", folder, "--port", port)
    assert error == f"troth: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


def test_another_engine_is_told_what_ours_would_be(folder: Path, tmp_path: Path):
    """With a program in vLLM's place that says what it was given: the real one needs a GPU to start in time."""
    program = tmp_path / "vllm" / "entrypoints" / "cli" / "main.py"
    program.parent.mkdir(parents=True)
    program.write_text("import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['VLLM_API_KEY']]))")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [*TROTH, "serve", str(folder), "--engine", "vllm", "--port", "7001", "--api-key", "secret"]
    command += ["--name", "mine", "--served-model-name", "ours", "--max-model-len", "999", "--chat-template", "a.jinja"]
    command += ["--kv-cache-dtype", "int8", "--enforce-eager", "--set", "serve.generation_config=none"]
    command += ["--uds", "a.sock"]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    arguments, key = json.loads(done.stdout)
    assert key == "secret"
    assert "secret" not in arguments
    assert arguments.pop() == "--enforce-eager"
    assert arguments[:2] == ["serve", str(folder)]
    assert arguments[-3:] == ["--served-model-name", "mine", "ours"]
    del arguments[-3:]
    told = dict(zip(arguments[2::2], arguments[3::2], strict=True))
    assert told == {
        "--host": "127.0.0.1", "--port": "7001", "--max-num-seqs": "16", "--allowed-origins": "[]",
        "--max-model-len": "999", "--chat-template": "a.jinja",
        "--max-num-batched-tokens": "512", "--kv-cache-dtype": "int8_per_token_head",
        "--generation-config": "vllm", "--uds": "a.sock",
    }  # fmt: skip


def test_what_cannot_be_had_is_one_line(fails: Callable[..., str], folder: Path):
    serve = "serve", folder, "--port", "0"
    assert "--api-key: is empty" in fails(*serve, "--api-key", "")
    assert "serve.chat_template=nowhere.jinja" in fails(*serve, "--chat-template", "nowhere.jinja")
    assert "serve.allowed_origins" in fails(*serve, "--allowed-origins", "*")
    assert "equal to 65535" in fails("serve", folder, "--port", "80000")
    assert "MIN:MAX" in fails(*serve, "--replicas", "4:1")
    assert "data-parallel" in fails(*serve, "--engine", "vllm", "--replicas", "2")
    if importlib.util.find_spec("vllm") is None:
        assert "pip install vllm" in fails(*serve, "--engine", "vllm")
