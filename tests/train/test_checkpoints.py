"""A checkpoint is whole or is not taken, holds what was there when it was asked for, and serves any number of ranks."""

import contextlib
import errno
import importlib
import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import given, settings
from hypothesis import strategies as st

from troth.train.checkpoints import Checkpoints
from troth.train.checkpoints.distcp import read_manifest, write_manifest
from troth.train.checkpoints.store import File, Store

RANKS = Path(__file__).with_name("checkpoint_ranks.py")


def state_at(step: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(step)
    return {
        "step": torch.tensor(step),
        "weight": torch.randn(30, 20, generator=random),
        "half": torch.randn(9, generator=random).bfloat16(),
        "none": torch.empty(0, 3),
        "turned": torch.randn(4, 6, generator=random).T,
        "part": torch.randn(100, generator=random)[10:20],
    }


def same(state, step):
    return all(torch.equal(state[name], tensor) for name, tensor in state_at(step).items())


def saved(url, *steps, keep=9):
    checkpoints = Checkpoints(url, keep)
    for step in steps:
        checkpoints.save(step, state_at(step))
    checkpoints.close()


def found(url):
    """The step that a load finds, its state checked, and what was said on the way."""
    state, said = state_at(99), []
    checkpoints = Checkpoints(url, 9)
    step = checkpoints.load(state, said.append)
    checkpoints.close()
    assert same(state, step or 99)
    return step, said


def ranks(url, *words):
    command = [sys.executable, str(RANKS), str(url), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_was_saved_is_found(tmp_path):
    assert found(tmp_path / "run") == (0, [])
    saved(tmp_path / "run", 3, 7)
    assert found(tmp_path / "run") == (7, [])


@pytest.mark.parametrize("url", ["memory://run/checkpoints", "file://{tmp_path}/run"])
def test_a_url_is_as_good_as_a_folder(tmp_path, url):
    url = url.format(tmp_path=tmp_path)
    saved(url, 3, 7, 11, keep=2)
    assert list(Store(url).folders().items()) == [("step-000000007", True), ("step-000000011", True)]
    assert found(url) == (11, [])


@pytest.mark.slow
def test_object_storage(monkeypatch):
    """A local server of Amazon's protocol, where one is installed, by fsspec's own client, or pyarrow's without it."""
    with contextlib.suppress(ImportError):
        monkeypatch.setattr(importlib.import_module("s3fs").S3FileSystem, "retries", 1)
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_MAX_ATTEMPTS": "1", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    importlib.import_module("boto3").client("s3").create_bucket(Bucket="bucket")
    try:
        saved("s3://bucket/run", 1, 2, 3, keep=2)
        assert found("s3://bucket/run") == (3, [])
        store = Store("s3://bucket/run")
        assert list(store.folders()) == ["step-000000002", "step-000000003"]
        store.fs.pipe_file(f"{store.root}/step-000000003/__0_0.distcp", b"damaged")
        step, said = found("s3://bucket/run")
        assert step == 2
        assert "__0_0.distcp has 7 bytes" in said[0]
        ranks("s3://bucket/ranks", 2, "save", 4, 1, "load", 4)
    finally:
        server.stop()
    checkpoints = Checkpoints("s3://bucket/run", 1)
    with pytest.raises(OSError, match="s3://bucket/run"):
        checkpoints.load(state_at(0), print)
    checkpoints.save(5, state_at(5))
    with pytest.raises(OSError, match="s3://bucket/run: a checkpoint could not be saved"):
        checkpoints.close()


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """The state may be changed as soon as save returns, here while the writer has not begun its first file."""
    go = threading.Event()
    create = Store.create

    def later(self, name):
        assert go.wait(30)
        return create(self, name)

    monkeypatch.setattr(Store, "create", later)
    checkpoints, state = Checkpoints(tmp_path, 2), state_at(5)
    checkpoints.save(5, state)
    for tensor in state.values():
        tensor.zero_()
    assert not (tmp_path / "step-000000005" / "manifest.json").exists()
    go.set()
    checkpoints.save(6, state_at(6))  # waits for the one before, whose memory it takes over
    assert (tmp_path / "step-000000005" / "manifest.json").exists()
    checkpoints.close()
    assert found(tmp_path) == (6, [])
    shutil.rmtree(tmp_path / "step-000000006")
    assert found(tmp_path) == (5, [])


def test_torch_reads_them_too(tmp_path):
    saved(tmp_path, 8)
    state = state_at(0)
    dcp.load(state, checkpoint_id=tmp_path / "step-000000008", no_dist=True)
    assert same(state, 8)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_damage_anywhere_is_named_and_the_one_before_serves(tmp_path_factory, data):
    run = tmp_path_factory.mktemp("run")
    saved(run, 1, 2)
    file = data.draw(st.sampled_from(sorted((run / "step-000000002").iterdir())))
    whole = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    match data.draw(st.sampled_from(["flipped", "cut", "longer", "missing"])):
        case "flipped":
            whole[at] ^= data.draw(st.integers(1, 255))
            file.write_bytes(whole)
        case "cut":
            file.write_bytes(whole[:at])
        case "longer":
            file.write_bytes(whole + b"x")
        case "missing":
            file.unlink()
    step, said = found(run)
    assert step == 1
    (line,) = said
    assert line.startswith(f"{run}/step-000000002: {file.name} ")
    checkpoints = Checkpoints(run, 1)
    assert checkpoints.load(state_at(0), said.append) == 1
    checkpoints.save(2, state_at(2))  # once more, now in good order
    checkpoints.close()
    assert found(run) == (2, [])


def test_where_none_is_whole_the_run_does_not_begin_anew(tmp_path):
    saved(tmp_path, 1, 2)
    for file in tmp_path.glob("*/*.distcp"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match=f"{tmp_path}: none of its checkpoints is whole"):
        found(tmp_path)


def test_a_first_checkpoint_that_was_never_finished_is_none(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / "step-000000001" / "manifest.json").unlink()
    step, (line,) = found(tmp_path)
    assert step == 0
    assert line.endswith("manifest.json is missing, so it was never finished; it is passed over")
    saved(tmp_path, 1)
    assert found(tmp_path) == (1, [])


def test_leftovers_go_with_the_next_save_and_old_ones_with_the_next_complete_one(tmp_path):
    saved(tmp_path, 1, 2, 3)
    (tmp_path / "step-000000003" / "__0_0.distcp").unlink()
    (tmp_path / "step-000000004").mkdir()
    (tmp_path / "step-000000004" / "__0_0.distcp").write_bytes(b"half of it")
    (tmp_path / "notes").mkdir()
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.load(state_at(0), lambda line: None) == 2
    checkpoints.save(3, state_at(3))
    checkpoints.save(4, state_at(4))
    checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "step-000000003", "step-000000004"]
    assert found(tmp_path) == (4, [])


def test_another_run_in_the_same_place_is_not_overwritten(tmp_path):
    saved(tmp_path, 5)
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(3, state_at(3))
    with pytest.raises(ValueError, match=f"{tmp_path}: .*step-000000005 is there already"):
        checkpoints.close()
    assert found(tmp_path) == (5, [])


@pytest.mark.parametrize(
    ("name", "tensor", "told"),
    [
        ("bias", torch.zeros(3), "has no tensor bias"),
        ("weight", torch.zeros(20, 30), "weight has shape (30, 20), not (20, 30)"),
        ("half", torch.zeros(9), "half has type torch.bfloat16, not torch.float32"),
    ],
)
def test_another_network_is_named_and_left_as_it_is(tmp_path, name, tensor, told):
    saved(tmp_path, 1)
    checkpoints, state = Checkpoints(tmp_path, 1), state_at(2) | {name: tensor}
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/step-000000001: {told}")):
        checkpoints.load(state, print)
    assert torch.equal(state["part"], state_at(2)["part"])
    checkpoints.close()


def failing(checkpoints, step):
    checkpoints.save(step, state_at(step) | {"large": torch.zeros(3_000_000)})
    with pytest.raises(OSError, match=re.escape(checkpoints.store.url)) as caught:
        checkpoints.save(step + 1, state_at(step + 1))
    assert "\n" not in str(caught.value)
    assert found(checkpoints.store.url)[0] == 1
    return str(caught.value)


def test_a_full_disk(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", tmp_path], check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        checkpoints = Checkpoints(tmp_path / "run", 3)
        checkpoints.save(1, state_at(1))
        assert os.strerror(errno.ENOSPC) in failing(checkpoints, 2)
        checkpoints.save(3, state_at(3))
        checkpoints.close()
        assert sorted(Store(tmp_path / "run").folders()) == ["step-000000001", "step-000000003"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_files_that_may_not_be_that_large(tmp_path):
    checkpoints = Checkpoints(tmp_path, 3)
    checkpoints.save(1, state_at(1))
    checkpoints.wait()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit[1]))
    try:
        assert os.strerror(errno.EFBIG) in failing(checkpoints, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    checkpoints.save(3, state_at(3))
    checkpoints.close()
    assert found(tmp_path) == (3, [])


def test_a_folder_that_vanishes_and_comes_back(tmp_path):
    run = tmp_path / "disk" / "run"
    run.mkdir(parents=True)
    saved(run, 1)
    (tmp_path / "disk").rename(tmp_path / "away")
    (tmp_path / "disk").write_bytes(b"no folder")
    checkpoints = Checkpoints(run, 2)
    checkpoints.save(2, state_at(2))
    with pytest.raises(OSError, match=str(run)):
        checkpoints.wait()
    (tmp_path / "disk").unlink()
    (tmp_path / "away").rename(tmp_path / "disk")
    checkpoints.save(3, state_at(3))
    checkpoints.close()
    assert found(run) == (3, [])


class Forged:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_forged_pickle_runs_nothing(tmp_path):
    saved(tmp_path, 1)
    store, step = Store(tmp_path), "step-000000001"
    with store.create(f"{step}/.metadata") as stream:
        stream.write(pickle.dumps(Forged(tmp_path / "harm")))
    files = read_manifest(store.read(f"{step}/manifest.json"))[:-1]
    files.append(File(".metadata", stream.size, stream.hash.hexdigest()))
    store.publish(f"{step}/manifest.json", write_manifest(1, 1, files))
    with pytest.raises(ValueError, match=r"\.metadata asks for posix\.mkdir, which is no part of its format"):
        found(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_what_cannot_be_asked_for():
    with pytest.raises(ValueError, match=r"moon://far: .*moon"):
        Checkpoints("moon://far", 1)
    with pytest.raises(ValueError, match="keep=0"):
        Checkpoints("memory://run", 0)


def test_four_ranks_then_two_then_three_then_one(tmp_path):
    actions = 4, "save", 1, 2, "load", 1, 2, "save", 2, 3, "load", 2, 3, "save", 3, 1, "load", 3
    ranks(f"file://{tmp_path}", *actions)
    newest = tmp_path / "step-000000003"
    assert json.loads((newest / "manifest.json").read_text())["world_size"] == 3
    (newest / "__2_0.distcp").write_bytes(b"damaged")
    said = ranks(tmp_path, 2, "load", 2)
    assert said.count("__2_0.distcp has 7 bytes") == 1  # found by one rank, told by the first, heeded by both
    (tmp_path / "step-000000002" / ".metadata").unlink()
    told = ranks(tmp_path, 2, "fail", 0)
    assert all(f"rank {rank}: {tmp_path}: none of its checkpoints is whole" in told for rank in (0, 1))


@pytest.mark.parametrize("lives", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_ranks_killed_at_any_moment_leave_the_last_complete_one(tmp_path, lives):
    assert f"checkpoints in {lives} lives" in ranks(tmp_path / "run", 3, "kill", lives)
