"""Watches a rank while it trains: says where it stands, finds that it does not move, and may end it.

The training loop says what it enters; that is an assignment. A thread does the rest, and knows by the clock alone that
nothing moved: neither a device, nor another rank, nor the store need answer for that.
"""

import contextlib
import itertools
import os
import statistics
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch.distributed as dist

from troth.train.health.board import Board
from troth.train.health.courier import PATIENCE, Courier, Seat, find_seat, open_board

EXIT_CODE = 75
"""Of a rank that ended itself: EX_TEMPFAIL, try again."""

_numbers = itertools.count()
"""All ranks make their watches in the same order; each has keys of its own in the store."""

_GRACE = 8
"""So many beats after a rank found that it hangs it ends: time for the ranks to find out together who is to blame."""


@dataclass(frozen=True)
class WatchRule:
    """A rank hangs that has been in one phase for `multiple` times its usual step and for `least` seconds (`first`
    seconds before its second step). A rank is a straggler whose own work takes `slow` times the median's, in the median
    of its last `window` steps. With `end`, a rank that hangs ends, so that torchrun starts the run anew."""

    beat: float = 10.0
    """Seconds between signs of life; one more for each 1,000 machines."""
    least: float = 300.0
    first: float = 1800.0
    multiple: float = 10.0
    slow: float = 1.3
    window: int = 16
    end: bool = False

    def __post_init__(self) -> None:
        if min(self.least, self.first) < 2 * PATIENCE * self.beat:
            raise ValueError(
                f"least={self.least:g} and first={self.first:g} must be {2 * PATIENCE} times beat={self.beat:g} or more"
            )


@dataclass(frozen=True)
class _Stand:
    """What the training loop said last."""

    step: int
    place: int
    phase: str
    since: float


def to_stderr(text: str) -> None:
    """One line on standard error."""
    print(f"troth: {text}", file=sys.stderr, flush=True)


class Watch:
    """Use as a context manager around the training loop; with a process group, all ranks make one together.

    What is found goes to `tell`, each line from one rank; and to `health.jsonl` (who, when, why) and the folder `hangs`
    (stacks, a file a machine) under `run`, which must exist.
    """

    def __init__(self, run: Path, rule: WatchRule, tell: Callable[[str], None] = to_stderr):
        self.run, self.rule, self.tell = run, rule, tell
        self.seat: Seat = find_seat()
        self.beat = rule.beat + self.seat.nodes / 1000
        self._stand = _Stand(-1, 0, "start", time.monotonic())
        self._step_began: float | None = None
        self._steps: deque[float] = deque(maxlen=rule.window)
        self._own: deque[float] = deque(maxlen=rule.window)
        self._board: Board | None = None
        self._courier: Courier | None = None
        if dist.is_initialized():
            # A connection of its own: the main thread may be waiting on the other one.
            other = dist.distributed_c10d._get_default_store().clone()  # type: ignore[attr-defined]
            store = dist.PrefixStore(f"troth-watch {next(_numbers)}", other)
            self._board = open_board(self.seat, store)
            self._show(self._stand, self._stand.since)
            self._courier = Courier(self.seat, store, self._board, self.beat, rule.slow, run, tell)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="troth-watch", daemon=True)
        self._thread.start()

    def enter(self, step: int, phase: str) -> None:
        """The loop enters a phase of a step, such as `data`, `forward` or `checkpoint` (20 letters are shown)."""
        now, before = time.monotonic(), self._stand
        if step == before.step:
            self._stand = _Stand(step, before.place + 1, phase, now)
            return
        if self._step_began is not None:
            self._steps.append(now - self._step_began)
        self._step_began = now
        self._stand = _Stand(step, 0, phase, now)

    def worked(self, seconds: float) -> None:
        """What a step's own work took this rank, without waiting for others."""
        self._own.append(seconds)

    def limit(self) -> float:
        """Seconds in one phase after which this rank hangs."""
        steps = list(self._steps)
        if not steps:
            return max(self.rule.least, self.rule.first)
        return max(self.rule.least, self.rule.multiple * statistics.median(steps))

    def close(self) -> None:
        """End the threads."""
        self._closing.set()
        self._thread.join()
        if self._courier:
            self._courier.close()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _work(self) -> None:
        woke = resumed = time.monotonic()
        stuck: _Stand | None = None
        stuck_since: float | None = None
        while not self._closing.wait(self.beat):
            now, stand = time.monotonic(), self._stand
            if now - woke > PATIENCE * self.beat:
                resumed = now  # This process was stopped itself, so the time says nothing of its loop.
            woke = now
            self._show(stand, now)
            if stuck is not None and stand is not stuck:
                self.tell(f"rank {self.seat.rank} moves again: {stand.phase} of step {stand.step}")
                stuck = stuck_since = None
            elif stuck is None and now - max(stand.since, resumed) > self.limit():
                stuck, stuck_since = stand, now
                self._report(stand, now)
            if self._courier:
                self._courier.stuck_since = stuck_since
            if stuck_since is not None and self.rule.end and now - stuck_since > _GRACE * self.beat:
                self._end(stand, now)

    def _show(self, stand: _Stand, now: float) -> None:
        if self._board:
            own = list(self._own)
            known = statistics.median(own) if 2 * len(own) >= self.rule.window else float("nan")
            self._board.records[self.seat.slot] = (
                self.seat.rank, self.seat.node, stand.step, stand.place, stand.phase.encode(), now, stand.since, known,
            )  # fmt: skip

    def _report(self, stand: _Stand, now: float) -> None:
        file = self.run / "hangs" / f"node-{self.seat.node:05d}.txt"
        self.tell(f"{self._state(stand, now)}; stacks: {file}")
        # The folder may be on what hangs, so this thread does not wait for it.
        text = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self._state(stand, now)}\n{self._stacks()}\n"
        threading.Thread(target=_append, args=(file, text), daemon=True).start()

    def _state(self, stand: _Stand, now: float) -> str:
        usual = f", its usual step takes {statistics.median(self._steps):.3g} s" if self._steps else ""
        silent = now - self._courier.answered if self._courier else 0
        store = (
            f"; the store of the process group has not answered for {silent:.0f} s: look at the host that it is on "
            f"({os.environ.get('MASTER_ADDR', 'of rank 0')})" if silent > PATIENCE * self.beat else ""
        )  # fmt: skip
        return (
            f"rank {self.seat.rank} has been in {stand.phase} of step {stand.step} for {now - stand.since:.0f} s"
            f"{usual}{store}"
        )

    def _stacks(self) -> str:
        """The Python stacks of all threads but those of this watch."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        return "\n".join(
            f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}"
            for ident, frame in sys._current_frames().items()
            if not str(names.get(ident)).startswith("troth-")
        )

    def _end(self, stand: _Stand, now: float) -> None:
        self.tell(f"{self._state(stand, now)}: it ends with exit code {EXIT_CODE}, for the launcher to start it anew")
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(EXIT_CODE)


def _append(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    with file.open("a", encoding="utf-8") as out:
        out.write(text)
