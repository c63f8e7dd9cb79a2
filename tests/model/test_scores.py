"""Which keys queries see: spans of them for blocks of queries, and the lists of blocks that a GPU's kernel reads."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from troth.model.scores import Seen, SeenBetween


def test_what_no_query_of_a_block_sees_is_not_multiplied():
    mask = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril() & torch.ones(6, 6, dtype=torch.bool).triu(-2)
    assert Seen(mask).spans(2) == [(0, 2, 1), (0, 4, 0), (2, 6, 0)]
    assert Seen(torch.ones(2, 1, 3, 5, dtype=torch.bool)).spans(3) == [(0, 5, 5)]


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=12, max_size=12), min_size=1, max_size=3),
    st.integers(1, 14), st.sets(st.integers(0, 11), min_size=1), st.integers(1, 5),
)  # fmt: skip
def test_intervals_are_the_mask_that_they_stand_for(steps, window, queries, rows):
    """Documents and a window leave each query a run of keys, for whichever queries are asked."""
    documents, times = torch.tensor(steps).cumsum(1), torch.tensor(sorted(queries))
    begin = torch.searchsorted(documents, documents[:, times].contiguous()).maximum(times - window + 1)
    seen = SeenBetween(begin, times, 12)
    distance = times[:, None] - torch.arange(12)
    mask = (documents[:, times, None] == documents[:, None]) & (distance >= 0) & (distance < window)
    assert torch.equal(seen.mask[:, 0], mask)
    for number, span in enumerate(seen.spans(rows)):
        block = slice(number * rows, number * rows + rows)
        assert torch.equal(seen.part(block, span.first, span.end), mask[:, None, block, span.first : span.end])
        assert not mask[:, block, : span.first].any()
        assert not mask[:, block, span.end :].any()
        assert mask[:, block, span.first : span.first + span.clear].all()


@given(st.integers(0, 999), st.integers(1, 700), st.integers(1, 900), st.floats(0, 0.05), st.integers(1, 4))
def test_a_gpu_reads_every_block_that_holds_a_key_it_needs_and_masks_those_that_hold_another(
    seed, time, window, cuts, part
):
    random = torch.Generator().manual_seed(seed)
    documents = (torch.rand(2, time, generator=random) < cuts).cumsum(1)
    queries = torch.arange(time)[:: part]
    low = torch.searchsorted(documents, documents[:, queries].contiguous()).maximum(queries - window + 1)
    seen = SeenBetween(low, queries, time)
    lists = seen.block_mask
    read = blocks_of(lists.kv_num_blocks, lists.kv_indices)
    whole = blocks_of(lists.full_kv_num_blocks, lists.full_kv_indices)
    assert not (read & whole).any()
    for row, query, key in whole.nonzero().tolist():
        assert seen.mask[row, 0, 128 * query : 128 * query + 128, 128 * key : 128 * key + 128].all()
    square = torch.nn.functional.pad(seen.mask[:, 0], (0, -time % 128, 0, -len(queries) % 128))
    needed = square.unflatten(2, (-1, 128)).unflatten(1, (-1, 128)).any(2).any(-1)
    assert not (needed & ~read & ~whole).any()


def blocks_of(counts, numbers):
    """[batch, blocks of queries, blocks of keys], set where a list names the block."""
    named = torch.zeros_like(numbers, dtype=torch.bool)[:, 0]
    for row, query in torch.cartesian_prod(torch.arange(named.shape[0]), torch.arange(named.shape[1])).tolist():
        named[row, query, numbers[row, 0, query, : counts[row, 0, query]].long()] = True
    return named


def test_the_lists_are_made_without_looking_at_numbers():
    """The meta device has none: whatever asks for one fails there, and would wait for a GPU."""
    low, high = torch.empty(2, 1000, dtype=torch.int64, device="meta"), torch.arange(1000, device="meta")
    assert SeenBetween(low, high, 1000).block_mask.kv_indices.shape == (2, 1, 8, 8)
