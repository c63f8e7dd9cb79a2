"""Carries where ranks stand from machine to machine, over the key-value store that the process group was made with.

No collective takes part, so a rank that is stopped stops no news. One rank a machine speaks for it: the first of those
that show a sign of life. The first machine reads what all machines say, and judges. So a beat costs the store one write
and one read a machine, whatever the number of ranks: for 400,000 ranks on 50,000 machines that is 20 MB, and the beat,
which grows by a second for each 1,000 machines, is then a minute.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch.distributed as dist

from troth.train.health.board import RECORD, Board, create_board
from troth.train.health.verdict import Verdict, judge_hang, judge_pace, name_ranks

PATIENCE = 3
"""After so many beats without a sign a rank counts as silent."""

_AT_ONCE = 500
"""Keys read in one request; a store takes longer for each key of a longer one."""


@dataclass(frozen=True)
class Seat:
    """Where this rank sits: which of the `ranks`, on which of the `nodes`, and in which of the node's `slots`."""

    rank: int
    ranks: int
    node: int
    nodes: int
    slot: int
    slots: int


def find_seat() -> Seat:
    """As torchrun says; under another launcher each rank counts as a machine of its own."""
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if "GROUP_WORLD_SIZE" not in os.environ:
        return Seat(rank, ranks, rank, ranks, 0, 1)
    names = "GROUP_RANK", "GROUP_WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"
    return Seat(rank, ranks, *(int(os.environ[name]) for name in names))


def open_board(seat: Seat, store: dist.Store) -> Board:
    """This machine's board, which its first rank creates; all its ranks call this."""
    if seat.slot == 0:
        store.set(f"board/{seat.node}", str(create_board(seat.slots)))
    path = Path(store.get(f"board/{seat.node}").decode())
    board = Board(path, seat.slots)
    if store.add(f"opened/{seat.node}", 1) == seat.slots:
        path.unlink()
    return board


class Courier:
    """A thread of every rank. `stuck_since`, set by the rank's own watch, is when it stopped moving."""

    def __init__(
        self, seat: Seat, store: dist.Store, board: Board, beat: float, slow: float, run: Path,
        tell: Callable[[str], None],
    ):  # fmt: skip
        self.seat, self.store, self.board, self.beat, self.slow = seat, store, board, beat, slow
        self.run, self.tell = run, tell
        self.answered = time.monotonic()
        self.stuck_since: float | None = None
        self._hangs = 0
        self._judged = False
        self._late: set[int] = set()
        self._news: list[bytes] = []
        self._fresh: np.ndarray
        self._first_read = 0.0
        self._closing = threading.Event()
        if seat.slot == 0:
            store.set(f"host/{seat.node}", socket.gethostname())
        self._thread = threading.Thread(target=self._work, name="troth-courier", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; a store that does not answer is not waited for."""
        self._closing.set()
        self._thread.join(timeout=self.beat)

    def _work(self) -> None:
        # A store raises this and that, by how its host ended, and a disk may be full. Neither ends the thread: the
        # rank's own watch says that the store does not answer.
        with contextlib.suppress(RuntimeError):
            for node in range(self.seat.nodes if self.seat.rank == 0 else 0):
                # A machine that never says anything must not be waited for when all are read.
                self.store.compare_set(f"node/{node}", "", "")
        while not self._closing.is_set():
            with contextlib.suppress(RuntimeError, OSError):
                self._carry(time.monotonic())
                self.answered = time.monotonic()
            self._closing.wait(self.beat)

    def _carry(self, now: float) -> None:
        if self.stuck_since is None:
            self._hangs, self._judged = self._hangs + self._judged, False
        table = self.board.ages(now)
        before = table[(table["rank"] < self.seat.rank) & (table["alive"] < PATIENCE * self.beat)]
        if self.seat.rank not in table["rank"] or len(before):
            return
        self.store.set(f"node/{self.seat.node}", table.tobytes())  # type: ignore[arg-type]
        stuck = 0.0 if self.stuck_since is None else now - self.stuck_since
        # The first machine reads all the time. The others read in turn, should those before them be gone too.
        if self.seat.node > 0 and stuck <= self.seat.node * self.beat:
            return
        everyone = self._read(now)
        if self.stuck_since is None:
            self._tell_late(everyone)
        elif not self._judged and now - self._first_read > PATIENCE * self.beat:
            self._judged = True
            if self.store.add(f"hang/{self._hangs}", 1) == 1:
                self._say(judge_hang(everyone, self.seat.ranks, PATIENCE * self.beat), everyone)

    def _read(self, now: float) -> np.ndarray:
        """The records of all machines; those of a machine that says nothing new have aged since it last did."""
        news = [said for start in range(0, self.seat.nodes, _AT_ONCE) for said in self._read_some(start)]
        if not self._news:
            self._news, self._fresh, self._first_read = news, np.full(len(news), now), now
        tables = []
        for node, (said, old) in enumerate(zip(news, self._news, strict=True)):
            if said != old:
                self._fresh[node] = now
            table = np.frombuffer(said, RECORD).copy()
            table["alive"] += now - self._fresh[node]
            tables.append(table)
        self._news = news
        return np.concatenate(tables)

    def _read_some(self, start: int) -> list[bytes]:
        nodes = range(start, min(start + _AT_ONCE, self.seat.nodes))
        return self.store.multi_get([f"node/{node}" for node in nodes])

    def _tell_late(self, everyone: np.ndarray) -> None:
        """Each straggler once, and again should it have kept pace in between."""
        found = judge_pace(everyone, self.slow)
        for verdict in found:
            if not self._late.issuperset(verdict.ranks):
                self._say(verdict, everyone)
        self._late = {rank for verdict in found for rank in verdict.ranks}

    def _say(self, verdict: Verdict, everyone: np.ndarray) -> None:
        nodes = np.unique(everyone["node"][np.isin(everyone["rank"], verdict.ranks)]).tolist()
        hosts = sorted({self.store.get(f"host/{node}").decode() for node in nodes[:16]})
        who = name_ranks(verdict.ranks) + (f" on {', '.join(hosts)}" if hosts else "")
        text = f"{verdict.kind}: {who}: {verdict.why}" if verdict.ranks else f"{verdict.kind}: {verdict.why}"
        self.tell(text)
        with (self.run / "health.jsonl").open("a") as file:
            file.write(json.dumps({"time": time.time(), **asdict(verdict), "hosts": hosts, "text": text}) + "\n")
