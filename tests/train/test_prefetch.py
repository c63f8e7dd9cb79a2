"""Reading ahead: in order, bounded, and at an end of any kind nothing is left running."""

import itertools
import threading
import time

import numpy as np
import pytest
import torch

from troth.train.batches import Batch
from troth.train.prefetch import Prefetch


def numbered(taken, stop=None):
    """Batches of one number each, which is put into `taken` when the batch is made."""
    for number in itertools.count() if stop is None else range(stop):
        taken.append(number)
        part = np.full((1, 3), number)
        yield Batch(part[:, :-1], part[:, 1:], part[:, :-1])


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_batches_come_in_order():
    with Prefetch(numbered([], stop=20)) as ready:
        found = list(ready)
    assert [batch.inputs.tolist() for batch in found] == [[[number, number]] for number in range(20)]
    assert not threads()


def test_it_reads_ahead_but_not_far():
    taken = []
    with Prefetch(numbered(taken), depth=3) as ready:
        next(ready)
        deadline = time.monotonic() + 20
        while len(taken) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(taken) == 5  # one given, three waiting, one in hand
    assert not threads()


def test_an_error_comes_after_the_batches_before_it():
    def broken():
        yield from numbered([], stop=2)
        raise ValueError("shard 7: damaged")

    ready = Prefetch(broken())
    assert [int(next(ready).inputs[0, 0]) for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match="shard 7: damaged"):
        next(ready)
    assert not threads()
    assert list(ready) == []


def test_closed_in_the_middle_it_ends():
    ready = Prefetch(numbered([]))
    next(ready)
    ready.close()
    ready.close()
    assert not threads()
    assert list(ready) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_for_a_gpu_tensors_are_pinned():
    with Prefetch(numbered([], stop=1), "cuda") as ready:
        batch = next(ready)
    for part in (batch.inputs, batch.targets, batch.documents):
        assert torch.from_numpy(part).is_pinned()
        assert torch.from_numpy(part).to("cuda", non_blocking=True).tolist() == [[0, 0]]
