"""Two runs never write to one folder, and a folder is free again however the first one ended."""

import subprocess
import sys
from pathlib import Path

import pytest

from troth.system.lock import held


def test_one_process_at_a_time_has_a_folder_until_it_ends_however_it_does(tmp_path):
    imports = "import time; from pathlib import Path; from troth.system.lock import held"
    body = f"with held(Path({str(tmp_path)!r}), 'training'):\n    print('held', flush=True)\n    time.sleep(60)"
    command = [sys.executable, "-c", f"{imports}\n{body}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        told = f"process {other.pid} on .* is training it; wait for it or end it"
        with pytest.raises(ValueError, match=told), held(tmp_path, "training", patience=0.1):
            pass
        other.kill()
        with held(tmp_path, "training"):
            pass
        with held(tmp_path, "curating", patience=0.0):
            pass


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("file", "a file, where a folder has to be"),
        ("file/inner", "a file, where a folder has to be"),
        ("s3:/bucket/runs", "an address, where a folder of this machine has to be"),
    ],
)
def test_what_cannot_be_a_folder_is_named(tmp_path, monkeypatch, name, told):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ValueError, match=f"{name}: {told}"), held(Path(name), "training"):
        pass
