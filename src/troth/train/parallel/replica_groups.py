"""Replica groups: copies of a run, each on ranks and under a torchrun of its own, that learn together and outlive each
other. Quorums, commits and healing are torchft's (https://github.com/meta-pytorch/torchft).

Group g of G reads the g-th of G parts of every batch's rows, whoever else is there. Rank r of a group sums with ranks r
of the other groups that are present: the number of targets, before the backward pass, so that the gradient is the mean
over all targets that are read; then gradients, losses and the loads of experts. So all groups take the same step, to
the bit, and while a group is away the batch is the smaller by its rows, which are not learned later.

A step counts when all ranks of a group have got all sums (commit). Where a group is lost within a step, those left do
not update: they take the same step again, by themselves. A group that comes back loads its own checkpoint, and before
its first step the state of a group that is further, which waits for it.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from troth.train.parallel.ranks import Ranks

GROUP = "REPLICA_GROUP_ID"
LIGHTHOUSE = "TORCHFT_LIGHTHOUSE"
"""Environment variables that torchft's own launcher sets too."""


def group_number(groups: int) -> int:
    """Which of the run's replica groups this process belongs to. Raises ValueError where the environment lacks it."""
    if groups == 1:
        return 0
    number = os.environ.get(GROUP, "")
    if not number.isdecimal() or int(number) >= groups:
        raise ValueError(f"parallel.replica_groups={groups}: {GROUP}={number!r}; it must be 0 to {groups - 1}")
    if LIGHTHOUSE not in os.environ or "RANK" not in os.environ:
        raise ValueError(
            f"parallel.replica_groups={groups}: start torchft_lighthouse, set {LIGHTHOUSE} to its address, and run "
            "each group under a torchrun of its own"
        )
    return int(number)


class ReplicaGroups:
    """This rank's part in them. `state` is what a group that comes back takes from another: `before` brings it up to
    date there, `after` takes note of it here. `patience` bounds the wait for a group that says nothing."""

    def __init__(
        self, groups: int, ranks: Ranks, done: int, patience: timedelta, state: Mapping[str, torch.Tensor],
        before: Callable[[], None], after: Callable[[], None], say: Callable[[str], None],
    ):  # fmt: skip
        os.environ.setdefault("RUST_LOG", "warn")  # Else torchft tells every quorum and commit.
        from torchft import Manager, ProcessGroupGloo, ProcessGroupNCCL

        # Told in a line by `begin`, in place of a stack for every sum that fails.
        logging.getLogger("torchft.manager").setLevel(logging.CRITICAL)

        def give() -> dict[str, torch.Tensor]:
            before()
            return dict(state)

        def take(given: dict[str, torch.Tensor]) -> None:
            for name, tensor in state.items():
                tensor.copy_(given[name])
            after()

        # A store of its own: torchrun's outlives a start, and would give the address of a manager that is gone.
        self.store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False) if ranks.first else None
        host, port = ranks.once(lambda: (socket.gethostname(), self.store.port if self.store else 0))
        kind: Any = ProcessGroupNCCL if ranks.device == "cuda" else ProcessGroupGloo
        self.manager = Manager(
            pg=kind(timeout=patience), load_state_dict=take, state_dict=give, min_replica_size=1,
            use_async_quorum=False, init_sync=False, timeout=patience, quorum_timeout=patience, rank=ranks.rank,
            world_size=ranks.world, store_addr=host, store_port=port,
            replica_id=f"group-{group_number(groups)}",
        )  # fmt: skip
        self.manager.load_state_dict({"step": done, "batches_committed": 0})
        self.groups, self.present, self.say, self.device = groups, groups, say, ranks.device
        self._open = False

    def begin(self) -> int:
        """Find out who is present, and heal where another group is further; the steps that are done now."""
        if not self._open:
            self.manager.start_quorum()
            self._open = True
            present = self.manager.num_participants()
            if present != self.present:
                self.say(f"step {self.manager.current_step() + 1}: {present} of {self.groups} replica groups")
            self.present = present
        return self.manager.current_step()

    def sum(self, tensors: Iterable[torch.Tensor]) -> None:
        """Sum in place over the groups present; `commit` tells whether that came true."""
        works = [self.manager.allreduce(tensor, reduce_op=dist.ReduceOp.SUM) for tensor in tensors]
        for work in works:
            work.wait()

    def commit(self) -> bool:
        """Whether all ranks of this group have all sums since `begin`; if not, the step must be taken again."""
        self._open = False
        return self.manager.should_commit()

    def part(self) -> None:
        """Wait at the end until those present are there too: one that missed the last step takes it from the others."""
        self.begin()
        self.sum([torch.zeros(1, device=self.device)])
        self.commit()

    def close(self) -> None:
        """Leave the others."""
        self.manager.shutdown(wait=False)
