"""A run that gets SIGTERM leaves a checkpoint of the step it was in, on one process and on several."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SETTINGS = {
    "model.vocab_size": 270, "model.hidden_size": 32, "model.num_attention_heads": 2, "model.head_dim": 16,
    "model.moe_intermediate_size": 16, "train.batch_tokens": 256, "train.sequence_length": 64, "train.steps": 100_000,
    "train.checkpoint_every": 100_000, "train.log_every": 1, "data.weights": "{documents=1.0}",
}  # fmt: skip
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]


@pytest.mark.parametrize("launcher", [[], pytest.param(TORCHRUN, marks=pytest.mark.slow)], ids=["alone", "torchrun"])
def test_sigterm_leaves_a_checkpoint_of_the_last_step(launcher, tmp_path):
    documents, run = tmp_path / "documents.jsonl", tmp_path / "run"
    documents.write_text("\n".join(json.dumps({"text": f"Line {i} of a text. " * 20}) for i in range(50)))
    layout = {"parallel.dp_shard": 2} if launcher else {}
    settings = [f"--set={name}={value}" for name, value in (SETTINGS | layout).items()]
    troth = Path(sys.executable).with_name("troth")
    command = [*launcher, troth, "train", documents, "--out", run, "--system", "nano", *settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as training:
        until = time.monotonic() + 120
        while not steps_of(run) and time.monotonic() < until and training.poll() is None:
            time.sleep(0.1)
        training.send_signal(signal.SIGTERM)
        told, _ = training.communicate(timeout=180)
    done = steps_of(run)
    assert f"ended by SIGTERM after step {done}, with a checkpoint; the same command goes on" in told, told[-2000:]
    assert launcher or training.returncode == 143
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"step-{done:09d}"]


def steps_of(run: Path) -> int:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1])["step"] if lines and lines[-1].endswith("}") else 0
