"""Blocks are never leaked nor given to two, and nobody waits for ever, whatever is added, cancelled and stepped."""

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from troth.serve.engine.block_pool import BlockPool
from troth.serve.engine.block_tables import BlockTables, sliding_blocks
from troth.serve.engine.pace import Pace
from troth.serve.engine.request import Request, SampledToken
from troth.serve.engine.sampling_params import SamplingParams
from troth.serve.engine.scheduler import Chunk, Scheduler
from troth.serve.engine.sequence import Sequence

SIZE, BLOCKS, WINDOW, BATCH, BUDGET = 4, 12, 6, 4, 9
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, SIZE * BLOCKS - 8), st.integers(0, 2)),
        st.tuples(st.just("cancel"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("step"), st.integers(1, 5), st.just(0)),
    ),
    max_size=40,
)


def scheduler_over(blocks: int, sliding: int, batch: int = BATCH, budget: int = BUDGET) -> Scheduler:
    tables = BlockTables(BlockPool(blocks), BlockPool(sliding) if sliding else None, SIZE, WINDOW)
    return Scheduler(tables, batch, budget, Pace(0.03))


def add(scheduler: Scheduler, prompt: tuple[int, ...], priority: int = 0, most: int = 8) -> Sequence:
    sequence = Sequence(Request(prompt, SamplingParams(max_tokens=most), priority=priority), len(prompt) + most)
    scheduler.add(sequence)
    return sequence


def check(scheduler: Scheduler) -> None:
    """Each pool counts exactly those that hold a block."""
    tables = scheduler.tables
    held = [(tables.full, [sequence.blocks for sequence in scheduler.running])]
    if tables.sliding is not None:
        held.append((tables.sliding, [s.sliding_blocks[s.first_sliding :] for s in scheduler.running]))
    for pool, lists in held:
        counts = Counter(block for blocks in lists for block in blocks)
        assert all(pool.references[block] == counts[block] for block in range(pool.blocks))
        assert pool.free == pool.blocks - len(counts)
        assert all(len(set(blocks)) == len(blocks) for blocks in lists)
    assert all(not s.blocks and not s.sliding_blocks and s.computed == 0 for s in scheduler.waiting)
    assert all(s.computed <= len(s.blocks) * SIZE for s in scheduler.running)
    orders = [s.order for s in scheduler.running], [s.order for s in scheduler.waiting]
    assert all(order == sorted(order) for order in orders)


class Memory:
    """A cache that remembers which tokens were written into each place, in place of their keys."""

    def __init__(self) -> None:
        self.full: dict[int, tuple[int, ...]] = {}
        self.sliding: dict[int, tuple[int, ...]] = {}

    def compute(self, chunk: Chunk, slides: bool) -> None:
        text = (*chunk.sequence.tokens[: chunk.start], *chunk.tokens)
        kinds = [(self.full, chunk.blocks, len(text))]
        if slides:
            kinds.append((self.sliding, chunk.sliding_blocks, WINDOW))
        for memory, blocks, window in kinds:
            for position in range(chunk.start, len(text)):
                memory[blocks[position // SIZE] * SIZE + position % SIZE] = text[: position + 1]
            for position in range(max(0, chunk.start - window + 1), len(text)):
                seen = memory[blocks[position // SIZE] * SIZE + position % SIZE]
                assert seen == text[: position + 1], "another's keys"


def step(scheduler: Scheduler, memory: Memory, drafts: int = 0) -> list[Chunk]:
    """What the engine does; of each sequence's drafts, sevens, the first is right."""
    for sequence in scheduler.running:
        if sequence.pending == 1:
            sequence.drafts = [7] * min(drafts, sequence.most_tokens - len(sequence.tokens) - 1)
    decoding = [sequence for sequence in scheduler.running if sequence.pending == 1]
    chunks = scheduler.schedule()
    check(scheduler)
    assert sum(chunk.count for chunk in chunks) <= max(scheduler.max_step_tokens, len(decoding) + 1)
    assert len(chunks) <= scheduler.max_batch
    assert chunks or not (scheduler.running or scheduler.waiting), "work must go on"
    for sequence in decoding:
        computed = any(chunk.sequence is sequence for chunk in chunks)
        assert computed or sequence in scheduler.waiting, "who decodes is in every step"
    for chunk in chunks:
        memory.compute(chunk, scheduler.tables.sliding is not None)
    for chunk in chunks:
        new = min(chunk.samples, 2)
        finished = [chunk.sequence.append(SampledToken(7), b"x", ends=False).finish_reason for _ in range(new)]
        scheduler.computed(chunk, chunk.count - max(0, chunk.samples - 2))
        chunk.sequence.drafts = []
        if any(finished):
            scheduler.remove(chunk.sequence)
    check(scheduler)
    return chunks


# The last one gives way, an urgent one displaces the next, and the last would fit into what is left for that.
OVERTAKEN = [("add", 1, 0), ("add", 7, 2), ("cancel", 0, 0), ("step", 1, 0), ("add", 31, 1), ("step", 5, 0)]
OVERTAKEN += [("add", 9, 0)]


@pytest.mark.parametrize("sliding", [0, 8, BLOCKS], ids=["no windows", "few window blocks", "as many"])
@settings(max_examples=100, deadline=None)
@given(operations=OPERATIONS, drafts=st.integers(0, 3))
@example(OVERTAKEN, 0)
def test_blocks_are_held_by_who_uses_them_and_everything_ends(
    sliding: int, operations: list[tuple[str, int, int]], drafts: int
):
    scheduler = scheduler_over(BLOCKS, sliding)
    memory = Memory()
    for name, number, kind in operations:
        if name == "add":
            add(scheduler, (kind,) * number, priority=kind)
        elif name == "cancel":
            alive = [*scheduler.running, *scheduler.waiting]
            if alive:
                scheduler.remove(alive[number % len(alive)])
        else:
            for _ in range(number):
                step(scheduler, memory, drafts)
        check(scheduler)
    for _ in range(10_000):
        if not (scheduler.running or scheduler.waiting):
            break
        step(scheduler, memory, drafts)
    pools = scheduler.tables.full, scheduler.tables.sliding
    assert all(pool is None or pool.free == pool.blocks for pool in pools), "everything gives back what it held"


@settings(max_examples=50, deadline=None)
@given(long=st.integers(30, 200), shorts=st.lists(st.integers(1, 12), max_size=40), every=st.integers(1, 3))
def test_a_long_prompt_neither_stops_short_ones_nor_starves(long: int, shorts: list[int], every: int):
    scheduler, memory = scheduler_over(200, 40, batch=8, budget=16), Memory()
    first = add(scheduler, (1,) * long)
    waited: dict[int, int] = {}
    left = list(enumerate(shorts))
    steps, added = 0, {}
    while left or scheduler.running or scheduler.waiting:
        if left and steps % every == 0 and len(scheduler.running) < 7:
            place, length = left.pop(0)
            added[id(add(scheduler, (2 + place,) * length, most=2))] = steps
        before = first.computed
        for chunk in step(scheduler, memory):
            if chunk.samples and id(chunk.sequence) in added:
                waited.setdefault(id(chunk.sequence), steps - added[id(chunk.sequence)])
        steps += 1
        # What does not go to texts being written is shared with the long prompt.
        assert len(first.tokens) > long or first.computed >= min(long, before + 4)
    assert all(steps <= 12 for steps in waited.values())


def test_lower_priority_numbers_go_first_and_take_the_place_of_others():
    scheduler, memory = scheduler_over(BLOCKS, 0, batch=2), Memory()
    slow = [add(scheduler, (kind,) * 5, priority=5) for kind in (1, 2, 3)]
    step(scheduler, memory)
    assert scheduler.running == slow[:2]
    urgent = add(scheduler, (4,) * 5, priority=0)
    step(scheduler, memory)
    assert scheduler.running == [urgent, slow[0]]
    assert scheduler.waiting == slow[1:]
    assert scheduler.preemptions == 1
    add(scheduler, (5,) * 5, priority=5)
    step(scheduler, memory)
    assert scheduler.running == [urgent, slow[0]], "equals do not displace each other"


def test_an_urgent_prompt_waits_for_no_other_to_compute_its_beginning():
    scheduler, memory = scheduler_over(40, 0), Memory()
    add(scheduler, (1,) * 60, priority=3)
    step(scheduler, memory)
    equal, urgent = add(scheduler, (1,) * 61, priority=3), add(scheduler, (1,) * 62, priority=0)
    step(scheduler, memory)
    assert urgent in scheduler.running
    assert equal in scheduler.waiting


def test_the_youngest_gives_way_and_comes_back_first():
    scheduler, memory = scheduler_over(5, 0), Memory()
    old, young = add(scheduler, (1,) * 7, most=12), add(scheduler, (2,) * 3, most=12)
    while not scheduler.preemptions:
        step(scheduler, memory)
    late = add(scheduler, (3,) * 3)
    assert (scheduler.running, scheduler.waiting) == ([old], [young, late])
    assert (young.blocks, young.computed) == ([], 0)
    while old in scheduler.running:
        step(scheduler, memory)
    step(scheduler, memory)
    assert scheduler.running == [young, late]


def test_a_prefix_whose_window_is_gone_is_computed_anew():
    scheduler, memory = scheduler_over(20, 4, batch=1, budget=8), Memory()

    def serve(kind: int) -> Sequence:
        sequence = add(scheduler, (kind,) * 17, most=1)
        while scheduler.running or scheduler.waiting:
            step(scheduler, memory)
        return sequence

    serve(1)
    assert serve(1).cached_tokens == 16, "its last window is still there"
    serve(2)
    last = serve(1)
    assert last.cached_tokens == 0, "the other prompt took the window blocks"
    assert len(scheduler.tables.full.known(last.keys(4, SIZE))) == 4, "though all others are there"


def test_window_layers_take_what_their_windows_need():
    assert sliding_blocks(8_320, 16, 128, max_batch=16, max_step_tokens=512) == 16 * 9 + 32 + 2_080
    assert sliding_blocks(10, 16, 4096, max_batch=16, max_step_tokens=512) == 10


@pytest.fixture
def pace() -> Pace:
    """Has seen steps of 10 ms beside 8 sequences that decode, 20 ms beside 32, and 0.2 ms for each prompt token."""
    pace = Pace(0.030)
    assert pace.prompt_tokens(8) == 64, "nothing is known of prompts"
    for prompt_tokens in (0, 100, 40, 0, 70) * 30:
        for decoding, alone in ((8, 0.010), (32, 0.020)):
            pace.observe(prompt_tokens, decoding, alone + prompt_tokens * 0.0002)
    return pace


def test_prompts_beside_decoding_get_the_tokens_that_fit_into_the_time(pace: Pace):
    assert pace.prompt_tokens(8) == pytest.approx(100, abs=2)
    assert pace.prompt_tokens(32) == pytest.approx(50, abs=2)
    assert pace.prompt_tokens(1) == pytest.approx(150, abs=2), "nothing is known of fewer"
    for _ in range(60):
        pace.observe(prompt_tokens=100, decoding=8, seconds=1.0)
    assert pace.prompt_tokens(8) == 16, "prompts always go on"


def test_what_decoding_takes_is_learned_beside_prompts_too():
    pace = Pace(0.060)
    pace.observe(prompt_tokens=0, decoding=1, seconds=0.002)
    for prompt_tokens in (10, 100, 200) * 50:
        pace.observe(prompt_tokens, decoding=16, seconds=0.020 + prompt_tokens * 0.0002)
    assert pace.prompt_tokens(16) == pytest.approx(200, abs=5)


def test_steps_grow_with_the_response_ratio_of_the_prompt_that_waits_worst(pace: Pace):
    # 300 tokens take 60 ms alone, and 10 count as the 30 ms of a step.
    assert pace.prompt_tokens(8, [(0.110, 300), (0.055, 10)]) == pytest.approx(100, abs=2)
    assert pace.prompt_tokens(8, [(0.180, 300), (0.055, 10)]) == pytest.approx(250, abs=3), "a step of 60 ms"
    assert pace.prompt_tokens(8, [(0.110, 300), (0.090, 10)]) == pytest.approx(250, abs=3)
    assert pace.prompt_tokens(8, [(60, 10)]) == pytest.approx(550, abs=5), "120 ms at most"
    assert pace.prompt_tokens(8, [(20, 100_000)]) == pytest.approx(100, abs=2), "a long prompt takes long anyway"
