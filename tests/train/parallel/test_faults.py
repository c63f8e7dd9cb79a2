"""Real runs under torchrun survive real faults; `bench/faults.py` does it fifty times."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "bench" / "faults.py"


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk and reaches into processes: root on Linux"
)
def test_one_fault_of_each_kind_and_every_run_ends_the_same_to_the_bit(tmp_path):
    command = [sys.executable, BENCH, "--faults", "6", "--seed", "1", "--folder", tmp_path, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert found["wrong"] == [], done.stderr
    assert done.returncode == 0
    assert {fault["kind"] for fault in found["faults"]} == {
        "rank", "launcher", "disk", "truncate", "corrupt", "network"
    }  # fmt: skip
    assert any(fault["outcome"] != "went on" for fault in found["faults"])
