"""Does a training run survive what happens to machines? Real runs of two ranks under torchrun, hurt again and again.

    python bench/faults.py [--faults 50] [--seed 0] [--kinds rank launcher disk truncate corrupt network] [--json]
    python bench/faults.py --replica-groups [--every 30] [--seconds 180] [--json]

A small network (FSDP and expert parallelism over two ranks, a checkpoint every 5 of 60 steps) is trained once in peace.
Then the same run is begun anew and hurt at random moments, from its start to its end, up to four times, until so many
faults have happened: a rank gets SIGKILL, or torchrun does and its ranks end with it; the disk has no byte free
for some seconds; a file of the newest complete checkpoint is cut off or has a bit flipped, and a rank is killed so
that it is read; a TCP connection between the ranks, or of one with the store, is shut down. torchrun starts ranks
anew up to three times (--max-restarts); where it gives up, the same command is run again.

A run survives if it ends with every report and the model's files as in peace, to the bit; each end on the way must be
told in a line of Troth's or of torchrun's naming a killed rank, and no start may go back behind the newest complete and
undamaged checkpoint. Where no checkpoint is whole, the run says so, and its checkpoints are deleted as it advises.
Linux; root's rights for the network and for a disk of its own (in memory).
With --replica-groups (torchft), two groups of two ranks train on; every so many seconds one loses a rank and starts
anew. Goodput is the tokens learned a second over those in peace; `healed` groups came back at their peer's step, and
`differ` counts the steps whose reports were not the same in both groups. On a machine whose cores the groups share, one
that is away leaves its cores to the other.
"""

import argparse
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from groups import goodput, told
from idle import warn_if_busy
from injuries import damage, drop_connection, fill_disk, kill_rank, ranks_of, small_disk
from small_run import RATES, reports, start, write_documents

KINDS = "rank", "launcher", "disk", "truncate", "corrupt", "network"
PATIENCE = 300.0
"""Seconds in which an unhurt run must get on, or it hangs."""
MOST_ENDS = 3
"""So many ends in a row without a fault between them are a failure to start again."""


@dataclass
class Fault:
    """What was done to a run, at which step, and what became of it."""

    kind: str
    what: str
    step: int
    run: int
    outcome: str = "went on"


@dataclass
class Hurt:
    """A run, its faults, how its processes ended, and what is wrong, if anything."""

    folder: Path
    faults: list[Fault] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def main() -> None:
    """Run, print a table, or JSON with --json; exit code 1 where a run did not survive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-faults"))
    parser.add_argument("--replica-groups", action="store_true")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between faults of replica groups")
    parser.add_argument("--seconds", type=float, default=180.0, help="of training in peace, and with faults")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    if options.replica_groups:
        found = goodput(options.folder, options.every, options.seconds, options.seed)
        print(json.dumps(found, indent=2) if options.json else told(found))
        sys.exit(bool(found["survivors_restarted"] or found["steps_that_differ"]))
    chance, began = random.Random(options.seed), time.perf_counter()
    # Each kind as often as the others, in an order of chance.
    kinds = [options.kinds[n % len(options.kinds)] for n in range(options.faults)]
    chance.shuffle(kinds)
    shutil.rmtree(options.folder, ignore_errors=True)
    with ExitStack() as stack:
        disk = options.folder / "disk"
        stack.enter_context(small_disk(disk, megabytes=64))
        write_documents(options.folder / "documents.jsonl")
        peace = Trial(disk / "peace", options.folder, chance)
        started = time.perf_counter()
        peace.go([], 0.0)
        length = time.perf_counter() - started
        if peace.hurt.ends or peace.hurt.wrong:
            raise SystemExit(f"the undisturbed run failed; see {peace.log}")
        runs = []
        while kinds:
            trial = Trial(disk / f"run-{len(runs)}", options.folder, chance)
            trial.go(kinds, length)
            trial.hurt.wrong += differences(trial.hurt.folder, disk / "peace")
            runs.append(trial.hurt)
            shutil.rmtree(trial.hurt.folder)
            report(runs[-1], len(runs) - 1)
    faults = [fault for run in runs for fault in run.faults]
    wrong = [f"run {number}: {what}" for number, run in enumerate(runs) for what in run.wrong]
    seconds = time.perf_counter() - began
    if options.json:
        found = {"faults": [asdict(fault) for fault in faults], "runs": len(runs), "wrong": wrong, "seconds": seconds}
        print(json.dumps(found, indent=2))
    else:
        show(faults, runs, wrong, seconds)
    sys.exit(bool(wrong))


class Trial:
    """One run in `folder`, trained by the same command until it is finished."""

    def __init__(self, folder: Path, home: Path, chance: random.Random):
        self.hurt, self.home, self.chance = Hurt(folder), home, chance
        self.log = home / f"{folder.name}.log"
        self.checkpoints = folder / "checkpoints"
        self.damaged: set[tuple[str, int]] = set()
        self.expected: dict[int, int] = {}
        """The newest whole checkpoint that a start, by its number, finds: damage may come twice before it."""
        self.ranks: dict[int, int] = {}

    def go(self, kinds: list[str], length: float) -> None:
        """Train to the end; take up to four of `kinds` from the end of that list for faults on the way, each within
        `length` seconds after the last."""
        left, ends = self.chance.randint(1, 4) if kinds else 0, 0
        with self.log.open("w") as log:
            launcher, told = start(self.home / "documents.jsonl", self.hurt.folder, log), 0
            while not self.hurt.wrong:
                hurting = bool(kinds) and left > 0
                try:
                    code = launcher.wait(self.chance.uniform(0, length) if hurting else PATIENCE)
                except subprocess.TimeoutExpired:
                    if not hurting:
                        self.hurt.wrong.append(f"hangs at step {self.step()}")
                    elif self._injure(kinds[-1], launcher):
                        kinds.pop()
                        left, ends = left - 1, 0
                    continue
                self._follow(launcher)
                if code == 0:
                    break
                text = self.log.read_text()[told:]
                told += len(text)
                self._end(code, text)
                ends += 1
                if ends > MOST_ENDS:
                    self.hurt.wrong.append(f"did not start again: {self.hurt.ends[-1]}")
                else:
                    launcher = start(self.home / "documents.jsonl", self.hurt.folder, log)
            self._close(launcher)
        self._check_starts()

    def step(self) -> int:
        """The last that is reported."""
        return len(reports(self.hurt.folder))

    def _injure(self, kind: str, launcher: subprocess.Popen) -> bool:
        """Whether it could be done now."""
        self._follow(launcher)
        ranks, step = ranks_of(launcher.pid), self.step()
        whole = self._whole()
        what: str | None = None
        if kind == "disk":
            what = fill_disk(self.hurt.folder.parent, self.chance.uniform(0.5, 5))
        elif len(ranks) < 2:
            return False
        elif kind == "rank":
            what = kill_rank(ranks, self.chance)
        elif kind == "launcher":
            launcher.kill()
            what = "torchrun killed"
        elif kind == "network":
            what = drop_connection(ranks, self.chance)
        elif whole:
            folder = whole.pop()
            mark = self._mark(folder)
            what = damage(self.checkpoints / folder, kind == "truncate", self.chance)
            if what is not None:
                self.damaged.add(mark)
                what = f"{what}; {kill_rank(ranks, self.chance)}"
        if what is None:
            return False
        number, newest = len(self._starts()), int(whole[-1][5:]) if whole else 0
        before = 0 if kind in ("truncate", "corrupt") else self.expected.get(number, 0)
        self.expected[number] = max(before, newest)
        self.hurt.faults.append(Fault(kind, what, step, int(self.hurt.folder.name[4:])))
        self.ranks = ranks
        return True

    def _follow(self, launcher: subprocess.Popen) -> None:
        """Note what became of the last fault."""
        if self.hurt.faults and self.hurt.faults[-1].outcome == "went on":
            now = ranks_of(launcher.pid) if launcher.poll() is None else self.ranks
            if now not in ({}, self.ranks) or len(self._starts()) > max(self.expected):
                self.hurt.faults[-1].outcome = "started anew by torchrun"

    def _end(self, code: int, text: str) -> None:
        """Note how the command ended, if in a way that can be told to a user, and do as it says."""
        lines = [line for line in text.splitlines() if re.match(r"troth: |.*Signal 9 \(SIGKILL\) received", line)]
        if code == -signal.SIGKILL:
            lines = ["torchrun was killed"]
        if self.hurt.faults:
            self.hurt.faults[-1].outcome = "ended, begun again"
        if not lines:
            self.hurt.wrong.append(f"ended with code {code} and no clear line at step {self.step()}; see {self.log}")
            return
        self.hurt.ends.append(lines[-1])
        if "none of its checkpoints is whole" in lines[-1]:
            if self._whole():
                self.hurt.wrong.append(f"{self._whole()} are whole, but: {lines[-1]}")
            shutil.rmtree(self.checkpoints)

    def _whole(self) -> list[str]:
        """Complete checkpoints that were not damaged, the oldest first."""
        folders = sorted(path.parent.name for path in self.checkpoints.glob("step-*/manifest.json"))
        return [folder for folder in folders if self._mark(folder) not in self.damaged]

    def _mark(self, folder: str) -> tuple[str, int]:
        """Tells a checkpoint from a later one of the same step."""
        try:
            return folder, (self.checkpoints / folder).stat().st_ino
        except FileNotFoundError:
            return folder, 0

    def _starts(self) -> list[int]:
        """The steps that the run was started from so far."""
        record = self.hurt.folder / "run.json"
        return [entry["from_step"] for entry in json.loads(record.read_text())["history"]] if record.exists() else []

    def _check_starts(self) -> None:
        for number, least in self.expected.items():
            for step in self._starts()[number : number + 1]:
                if step < least:
                    self.hurt.wrong.append(f"started from step {step} though checkpoint {least} was whole")

    def _close(self, launcher: subprocess.Popen) -> None:
        """End what hangs."""
        if launcher.poll() is None:
            launcher.kill()
            launcher.wait()


def differences(run: Path, peace: Path) -> list[str]:
    """What a finished run has other than the undisturbed one."""
    ours, theirs = reports(run), reports(peace)
    for line in ours + theirs:
        for rate in RATES:
            line.pop(rate)
    found = [f"reports differ at step {a['step']}" for a, b in zip(ours, theirs, strict=False) if a != b][:1]
    if len(ours) != len(theirs):
        found.append(f"{len(ours)} reports, not {len(theirs)}")
    for path in sorted((peace / "model").iterdir()):
        other = run / "model" / path.name
        if not other.exists() or other.read_bytes() != path.read_bytes():
            found.append(f"model/{path.name} differs")
    return found


def report(run: Hurt, number: int) -> None:
    """Progress, on standard error."""
    for fault in run.faults:
        print(f"run {number}, step {fault.step}: {fault.what}: {fault.outcome}", file=sys.stderr)
    for line in [*(f"ended: {end}" for end in run.ends), *(run.wrong or ["the same to the bit"])]:
        print(f"run {number}: {line}", file=sys.stderr, flush=True)


def show(faults: list[Fault], runs: list[Hurt], wrong: list[str], seconds: float) -> None:
    """A row for each kind, and what went wrong."""
    outcomes = "went on", "started anew by torchrun", "ended, begun again"
    print(f"{'fault':<10} {'times':>6}  " + "  ".join(f"{outcome:>24}" for outcome in outcomes))
    for kind in KINDS:
        became = Counter(fault.outcome for fault in faults if fault.kind == kind)
        if became:
            print(f"{kind:<10} {became.total():>6}  " + "  ".join(f"{became[outcome]:>24}" for outcome in outcomes))
    same = sum(not run.wrong for run in runs)
    print(f"{len(faults)} faults in {seconds / 60:.0f} minutes; {same} of {len(runs)} runs ended the same to the bit")
    for line in wrong:
        print(line)


if __name__ == "__main__":
    main()
