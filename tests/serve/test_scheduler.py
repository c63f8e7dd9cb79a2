"""Blocks are never leaked nor given to two, over any order of adding, cancelling and stepping."""

from collections import Counter

import hypothesis.strategies as st
from hypothesis import given, settings

from troth.serve.engine.block_pool import BlockPool
from troth.serve.engine.request import Request, SampledToken
from troth.serve.engine.sampling_params import SamplingParams
from troth.serve.engine.scheduler import Scheduler
from troth.serve.engine.sequence import Sequence

SIZE, BLOCKS = 4, 12
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, SIZE * BLOCKS - 8), st.integers(0, 2)),
        st.tuples(st.just("cancel"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("step"), st.integers(1, 5), st.just(0)),
    ),
    max_size=40,
)


def check(scheduler: Scheduler) -> None:
    pool = scheduler.pool
    held = Counter(block for sequence in scheduler.running for block in sequence.blocks)
    assert all(pool.references[block] == held[block] for block in range(BLOCKS))
    assert pool.free == BLOCKS - len(held)
    assert all(not sequence.blocks and sequence.computed == 0 for sequence in scheduler.waiting)
    for sequence in scheduler.running:
        assert len(set(sequence.blocks)) == len(sequence.blocks)
        assert sequence.computed <= len(sequence.blocks) * SIZE


def step(scheduler: Scheduler, seen: dict[int, tuple[int, ...]]) -> None:
    """What the engine does, where the "cache" remembers which tokens were written into each place."""
    chunks = scheduler.schedule()
    check(scheduler)
    prompt_tokens = sum(chunk.count for chunk in chunks if chunk.count > 1)
    assert prompt_tokens <= scheduler.max_step_tokens
    assert len(chunks) <= scheduler.max_batch
    assert chunks or not (scheduler.running or scheduler.waiting), "work must go on"
    for chunk in chunks:
        for position in range(chunk.start, chunk.start + chunk.count):
            slot = chunk.blocks[position // SIZE] * SIZE + position % SIZE
            seen[slot] = tuple(chunk.sequence.tokens[: position + 1])
    for chunk in chunks:
        for position in range(chunk.start + chunk.count):
            slot = chunk.blocks[position // SIZE] * SIZE + position % SIZE
            assert seen[slot] == tuple(chunk.sequence.tokens[: position + 1]), "another's keys"
        scheduler.computed(chunk)
    for chunk in chunks:
        if chunk.samples and chunk.sequence.append(SampledToken(7), b"x", ends=False).finish_reason:
            scheduler.remove(chunk.sequence)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS)
def test_blocks_are_held_by_who_uses_them(operations: list[tuple[str, int, int]]):
    scheduler = Scheduler(BlockPool(BLOCKS), SIZE, max_batch=4, max_step_tokens=9)
    seen: dict[int, tuple[int, ...]] = {}
    for name, number, kind in operations:
        if name == "add":
            request = Request((kind,) * number, SamplingParams(max_tokens=8))
            scheduler.waiting.append(Sequence(request, number + 8))
        elif name == "cancel":
            alive = [*scheduler.running, *scheduler.waiting]
            if alive:
                scheduler.remove(alive[number % len(alive)])
        else:
            for _ in range(number):
                step(scheduler, seen)
        check(scheduler)
    for _ in range(10_000):
        if not (scheduler.running or scheduler.waiting):
            break
        step(scheduler, seen)
    assert scheduler.pool.free == BLOCKS, "everything must end, and give back what it held"


def test_the_youngest_gives_way_and_comes_back_first():
    scheduler = Scheduler(BlockPool(4), SIZE, max_batch=4, max_step_tokens=100)
    old, young, late = (Sequence(Request((kind,) * 7), 100) for kind in (1, 2, 3))
    scheduler.waiting.extend([old, young, late])
    seen: dict[int, tuple[int, ...]] = {}
    for chunk in scheduler.schedule():
        scheduler.computed(chunk)
    assert scheduler.running == [old]
    scheduler.running.append(scheduler.waiting.popleft())
    young.blocks = scheduler.pool.allocate(2)
    for sequence in (old, young):
        sequence.computed = 7
        for _ in range(2):
            sequence.append(SampledToken(0), b"", ends=False)
    scheduler.schedule()
    assert scheduler.running == [old]
    assert list(scheduler.waiting) == [young, late]
    assert (scheduler.preemptions, young.blocks, len(old.blocks), seen) == (1, [], 3, {})
