"""Goodput of replica groups: two groups of two ranks, one of which loses a rank to SIGKILL again and again."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from injuries import kill_rank, ranks_of
from small_run import RATES, reports, start, write_documents

GROUPS = 2
STARTING = 180.0
"""Seconds in which both groups must have begun."""


def goodput(folder: Path, every: float, seconds: float, seed: int) -> dict[str, Any]:
    """Tokens a second that were learned in `seconds` in peace, and with a fault `every` so many seconds; a token counts
    once, however often its step was taken. Raises RuntimeError where groups do not start."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_documents(folder / "documents.jsonl")
    chance = random.Random(seed)
    with training(folder / "peace", folder) as launchers:
        peace, _ = watch(folder / "peace", launchers, seconds, seconds, chance)
    with training(folder / "hurt", folder) as launchers:
        rate, faults = watch(folder / "hurt", launchers, every, seconds, chance)
    return {
        "peace": peace, "hurt": rate, "goodput": rate / peace, "faults": len(faults), "every": every,
        "seconds": seconds, "survivors_restarted": sum(fault["survivor_restarted"] for fault in faults),
        "healed": sum(fault["healed"] for fault in faults), "seconds_away": [fault["away"] for fault in faults],
        "steps_of_both": len(common := alike(folder / "hurt")), "steps_that_differ": common.count(False),
    }  # fmt: skip


@contextmanager
def training(run: Path, home: Path) -> Iterator[list[subprocess.Popen]]:
    """All groups, from when they have taken a step together."""
    os.environ.setdefault("RUST_LOG", "warn")
    from torchft.coordination import LighthouseServer

    lighthouse = LighthouseServer(bind="[::]:0", min_replicas=1, join_timeout_ms=1000, heartbeat_timeout_ms=3000)
    launchers = []
    try:
        for number in range(GROUPS):
            variables = {"REPLICA_GROUP_ID": str(number), "TORCHFT_LIGHTHOUSE": lighthouse.address()}
            with Path(f"{run}-{number}.log").open("w", encoding="utf-8") as log:
                launchers.append(start(
                    home / "documents.jsonl", Path(f"{run}-{number}"), log, 1000, variables,
                    parallel__replica_groups=GROUPS, train__steps=100_000, train__checkpoint_every=20,
                ))  # fmt: skip
        end = time.monotonic() + STARTING
        while not all(len(reports(Path(f"{run}-{number}"))) > 5 for number in range(GROUPS)):
            if time.monotonic() > end:
                raise RuntimeError(f"the groups did not start; see {run}-0.log")
            time.sleep(0.5)
        yield launchers
    finally:
        for launcher in launchers:
            launcher.terminate()
        for launcher in launchers:
            launcher.wait()
        lighthouse.shutdown()


def watch(
    run: Path, launchers: list[subprocess.Popen], every: float, seconds: float, chance: random.Random
) -> tuple[float, list[dict[str, Any]]]:
    """Tokens a second over all groups, and what became of each fault."""
    began = time.monotonic()
    before = learned(run)
    faults: list[dict[str, Any]] = []
    for number in range(1, int(seconds / every)):
        time.sleep(max(0.0, began + number * every - time.monotonic()))
        victim = chance.randrange(GROUPS)
        ranks = ranks_of(launchers[victim].pid)
        others = ranks_of(launchers[1 - victim].pid)
        if len(ranks) < 2 or len(others) < 2:
            continue
        killed, reached = time.monotonic(), max(learned(run))
        print(f"group {victim}: {kill_rank(ranks, chance)} at step {reached}", file=sys.stderr, flush=True)
        while time.monotonic() < began + min(seconds, (number + 1) * every) - 1:
            time.sleep(0.25)
            theirs = reports(Path(f"{run}-{victim}"))
            if theirs and theirs[-1]["step"] > reached + 1 and ranks_of(launchers[victim].pid) != ranks:
                break
        away = time.monotonic() - killed
        survived = ranks_of(launchers[1 - victim].pid) == others
        healed = reports(Path(f"{run}-{victim}"))[-1]["step"] > reached + 1
        faults.append({"away": round(away, 1), "survivor_restarted": not survived, "healed": healed})
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    after = learned(run)
    tokens = sum(count for step, count in after.items() if step > max(before))
    return tokens / (time.monotonic() - began), faults


def learned(run: Path) -> dict[float, float]:
    """Tokens of each step that any group has reported."""
    tokens: dict[float, float] = {}
    for number in range(GROUPS):
        for line in reports(Path(f"{run}-{number}")):
            tokens[line["step"]] = line["tokens_per_second"] * line["seconds_per_step"]
    return tokens


def alike(run: Path) -> list[bool]:
    """Whether both groups report the same, for each step that both have taken."""
    ours, theirs = ({line["step"]: line for line in reports(Path(f"{run}-{number}"))} for number in range(GROUPS))
    for line in (*ours.values(), *theirs.values()):
        for rate in RATES:
            line.pop(rate)
    return [ours[step] == theirs[step] for step in sorted(ours.keys() & theirs.keys())]


def told(found: dict[str, Any]) -> str:
    """What `goodput` found, in lines."""
    away = ", ".join(f"{seconds:.0f}" for seconds in found["seconds_away"])
    return (
        f"tokens/s     in peace {found['peace']:,.0f}, with a fault every {found['every']:g} s {found['hurt']:,.0f}\n"
        f"goodput      {found['goodput']:.0%} over {found['seconds']:g} s and {found['faults']} faults\n"
        f"lost groups  {found['healed']} healed, after {away} s; {found['survivors_restarted']} survivors restarted\n"
        f"reports      {found['steps_of_both']} steps of both groups, of which {found['steps_that_differ']} differ"
    )
