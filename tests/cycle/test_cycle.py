"""The whole thread on a very small budget: documents to a measured and served model, through the command line."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from openai import OpenAI

TROTH = [sys.executable, "-c", "from troth.cli.main import main; main()"]
SMALL = [
    *("--set", 'data.sources=["library"]'), *("--set", "train.steps=12"), *("--set", "train.batch_tokens=1024"),
    *("--set", "cycle.examiner_steps=6"), *("--set", "model.vocab_size=1024"), *("--set", "train.checkpoint_every=5"),
]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cycle(tmp_path_factory) -> tuple[Path, dict]:
    """A cycle that was killed while generation 0 trained, and then run to its end."""
    out = tmp_path_factory.mktemp("cycle") / "small"
    command = [*TROTH, "cycle", "--out", str(out), "--json", *SMALL]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("gen-0/run/checkpoints/step-*[0-9]")) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return out, json.loads(done.stdout)


def test_a_killed_cycle_continues_to_scores_of_both_generations(cycle):
    out, scores = cycle
    assert len(scores["generations"]) == 2
    for generation in scores["generations"]:
        assert generation["untouched_count"] + generation["corrupted_count"] == len(generation["answers"]) == 600
        assert 0 <= generation["calibration_error"] <= 1
        assert all(len(layers) == 2 for layers in generation["experts"].values())
    assert scores["curation"]["wrong"] == 175
    assert scores["curation"]["caught"] > scores["curation"]["false_alarms"]
    assert (out / "best" / "model.safetensors").exists()


def test_the_report_is_one_self_contained_page_with_plots(cycle):
    out, _ = cycle
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert not re.search(r'(?:src|href)="https?:', page)


def test_run_again_it_answers_at_once_with_the_same(cycle):
    out, scores = cycle
    again = subprocess.run(
        [*TROTH, "cycle", "--out", str(out), "--json", *SMALL], capture_output=True, text=True, check=True
    )
    assert json.loads(again.stdout) == scores
    assert "step" not in again.stderr


def test_other_settings_in_the_same_folder_are_refused_in_one_line(cycle):
    out, _ = cycle
    command = [*TROTH, "cycle", "--out", str(out), *SMALL, "--set", "train.seed=5"]
    other = subprocess.run(command, check=False, capture_output=True, text=True)
    assert other.returncode == 2
    assert other.stderr.count("\n") == 1
    assert str(out) in other.stderr


def test_the_openai_client_streams_a_chat_from_the_served_model(cycle):
    out, _ = cycle
    command = [*TROTH, "serve", str(out / "best"), "--name", "nano", "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        lines = []
        while not lines or lines[-1] != "}\n":
            lines.append(server.stdout.readline())
        client = OpenAI(base_url=json.loads("".join(lines))["url"], api_key="none")
        assert [model.id for model in client.models.list()] == ["nano"]
        question = [{"role": "user", "content": "Which city is the capital of Nigeria?"}]
        chunks = list(client.chat.completions.create(model="nano", messages=question, stream=True, max_tokens=12))
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")
        assert len(chunks) > 2
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0
