"""A rank that is stopped, sleeps or is slow is named within seconds, while all others wait for it."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from troth.train.health.watch import EXIT_CODE, Watch, WatchRule

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGSTOP")

# Rank 2 is slow, and with `sleep` it never comes back from its data.
LOOP = """
import sys, time
from pathlib import Path
import torch, torch.distributed as dist
from troth.train.health.watch import Watch, WatchRule

run, sleep = Path(sys.argv[1]), int(sys.argv[2])
dist.init_process_group("gloo")
rank = dist.get_rank()
work = 0.06 if rank == 2 else 0.02
with Watch(run, WatchRule(beat=0.2, least=2, first=9, multiple=3, window=4, end=True)) as watch:
    for step in range(1000):
        watch.enter(step, "data")
        time.sleep(work + (1000 if rank == 2 and step == sleep else 0))
        watch.worked(work)
        watch.enter(step, "all-reduce")
        dist.all_reduce(torch.ones(1))
        if step == 15:
            print("ready", flush=True)
"""


def stop(processes, rank):
    """Stop a rank once all have made steps, and return what the others said until they ended."""
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    processes[rank].send_signal(signal.SIGSTOP)
    others = [process for number, process in enumerate(processes) if number != rank]
    started = time.monotonic()
    told = "".join(process.communicate(timeout=180)[1] for process in others)
    assert time.monotonic() - started < 20
    assert [process.returncode for process in others] == [EXIT_CODE] * len(others)
    return told


def findings(run):
    return [json.loads(line) for line in (run / "health.jsonl").read_text().splitlines()]


def test_a_stopped_rank_and_a_slow_one_are_named(start_ranks, tmp_path):
    with start_ranks(LOOP, 3, tmp_path, -1) as processes:
        told = stop(processes, 1)
    slow, hang = findings(tmp_path)
    assert (slow["kind"], slow["ranks"], hang["kind"], hang["ranks"]) == ("straggler", [2], "hang", [1])
    assert "0.06 s of own work a step, of which the median rank has 0.02 s" in told
    assert re.search(r"hang: rank 1 on \S+: no sign of life for [\d.]+ s or more; ranks 0, 2 in all-reduce of", told)
    assert told.count("hang: ") == 1
    for rank in (0, 2):
        assert f"rank {rank} has been in all-reduce of step" in told
        assert "in all_reduce" in (tmp_path / "hangs" / f"node-0000{rank}.txt").read_text()


def test_the_next_rank_speaks_for_a_machine_whose_first_is_stopped(start_ranks, tmp_path):
    with start_ranks(LOOP, 3, tmp_path, -1, machines=1) as processes:
        told = stop(processes, 0)
    assert findings(tmp_path)[-1]["ranks"] == [0]
    assert told.count("hang: rank 0 on") == 1
    assert (tmp_path / "hangs" / "node-00000.txt").read_text().count("thread MainThread") == 2


@pytest.mark.slow
def test_the_next_machine_judges_when_the_first_is_gone(start_ranks, tmp_path):
    with start_ranks(LOOP, 3, tmp_path, -1) as processes:
        told = stop(processes, 0)
    assert findings(tmp_path)[-1]["ranks"] == [0]
    assert told.count("hang: rank 0 on") == 1


@pytest.mark.slow
def test_a_rank_that_lives_but_does_not_come_is_named(start_ranks, tmp_path):
    with start_ranks(LOOP, 3, tmp_path, 16) as processes:
        told = [process.communicate(timeout=180) for process in processes]
    hang = findings(tmp_path)[-1]
    assert hang["ranks"] == [2]
    assert "ranks 0-1 in all-reduce of step 16, rank 2 in data of step 16" in hang["why"]
    assert "rank 2 has been in data of step 16" in told[2][1]


@pytest.mark.slow
def test_where_the_store_is_gone_each_rank_says_so(start_ranks, tmp_path):
    with start_ranks(LOOP, 3, tmp_path, -1, store_apart=False) as processes:
        told = stop(processes, 0)
    assert told.count("the store of the process group has not answered") == 2
    assert "look at the host that it is on (127.0.0.1)" in told


RESTARTED = """
import os, signal, sys, time
from pathlib import Path
import torch, torch.distributed as dist
from troth.train.health.watch import Watch, WatchRule

dist.init_process_group("gloo")
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
with Watch(Path(sys.argv[1]), WatchRule(beat=0.2, least=2, first=9, multiple=3, end=True)) as watch:
    for step in range(20):
        watch.enter(step, "data")
        if attempt == 0 and step == 10 and dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        watch.enter(step, "all-reduce")
        dist.all_reduce(torch.ones(1))
print(f"rank {dist.get_rank()} done in attempt {attempt}", flush=True)
dist.barrier()  # A rank that leaves while another still talks ends that one.
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # gloo's threads have aborted at the interpreter's end, once in many runs.
"""


@pytest.mark.slow
def test_torchrun_starts_a_hanging_run_anew(tmp_path):
    """It takes half a minute: torchrun waits so long before it kills a rank that does not end when told to.

    The variable gives each attempt a store of its own. In torchrun's shared one, addresses of the first attempt's ranks
    stay, and the second tries to connect to them (torch 2.13).
    """
    (tmp_path / "loop.py").write_text(RESTARTED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", "--max-restarts=1"]
    command = [*torchrun, str(tmp_path / "loop.py"), str(tmp_path)]
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    ended = sorted(re.findall(r"rank \d done in attempt \d", done.stdout))
    assert ended == [f"rank {rank} done in attempt 1" for rank in range(3)]
    assert [finding["ranks"] for finding in findings(tmp_path)] == [[1]]


def test_one_process_watches_itself(tmp_path):
    told = []
    rule = WatchRule(beat=0.02, least=0.2, first=0.2)
    with Watch(tmp_path, rule, told.append) as watch:
        for step in range(3):
            watch.enter(step, "data")
        time.sleep(0.5)
        watch.enter(3, "data")
        time.sleep(0.1)
    assert re.match(r"rank 0 has been in data of step 2 for 0 s, its usual step takes .*; stacks: ", told[0])
    assert told[1:] == ["rank 0 moves again: data of step 3"]
    assert "test_one_process_watches_itself" in (tmp_path / "hangs" / "node-00000.txt").read_text()


def test_the_first_step_may_take_longer(tmp_path):
    told = []
    with Watch(tmp_path, WatchRule(beat=0.01, least=0.1, first=9), told.append) as watch:
        watch.enter(0, "data")
        time.sleep(0.3)
    assert told == []


def test_a_rule_that_could_not_tell_silence_from_haste_is_refused():
    with pytest.raises(ValueError, match=r"least=5 and first=1800 must be 6 times beat=10 or more"):
        WatchRule(least=5)
