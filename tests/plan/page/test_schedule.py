"""The pipeline's picture shows an order that could be run, and the bubble that the time model counts."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from troth.plan.page.schedule import order, schedule

PIPELINES = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))


@settings(deadline=None, max_examples=60)
@given(PIPELINES, st.floats(0.5, 3))
def test_every_box_once_after_what_it_needs_and_one_at_a_time(sizes: tuple[int, int, int], backward: float) -> None:
    ranks, chunks, rounds = sizes
    boxes = schedule(ranks, chunks, rounds * ranks, backward)
    stages = ranks * chunks
    at = {(box.stage, box.micro_batch, box.backward): box for box in boxes}
    assert len(at) == len(boxes) == 2 * stages * rounds * ranks
    for (stage, micro_batch, back), box in at.items():
        assert box.rank == stage % ranks
        needs = []
        if back:
            needs = [(stage, micro_batch, False)] + [(stage + 1, micro_batch, True)] * (stage < stages - 1)
        elif stage:
            needs = [(stage - 1, micro_batch, False)]
        assert all(at[need].end <= box.start + 1e-9 for need in needs)
    for rank in range(ranks):
        own = sorted((box for box in boxes if box.rank == rank), key=lambda box: box.start)
        assert all(one.end <= other.start + 1e-9 for one, other in pairwise(own))
        assert [(box.stage, box.micro_batch, box.backward) for box in own] == order(rank, ranks, chunks, rounds * ranks)


@settings(deadline=None, max_examples=60)
@given(PIPELINES)
def test_the_step_is_as_long_as_the_time_model_says(sizes: tuple[int, int, int]) -> None:
    ranks, chunks, rounds = sizes
    boxes = schedule(ranks, chunks, rounds * ranks)
    assert max(box.end for box in boxes) == pytest.approx(3 * (rounds * ranks + (ranks - 1) / chunks))


def test_two_ranks_by_hand() -> None:
    assert order(0, 2, 1, 2) == [(0, 0, False), (0, 1, False), (0, 0, True), (0, 1, True)]
    assert order(1, 2, 1, 2) == [(1, 0, False), (1, 0, True), (1, 1, False), (1, 1, True)]


def test_micro_batches_that_make_no_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="5 micro-batches over 2 ranks: expected a multiple of 2"):
        schedule(2, 2, 5)
