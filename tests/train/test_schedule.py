"""Learning rates have their shape, batches grow to their size in whole multiples, and a step decides all of it."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.system import ParallelTable, TrainTable, lay_out
from troth.train.schedule import (
    learning_rate_share,
    mtp_weight,
    rows_before,
    rows_of,
    warmup_cosine,
    warmup_stable_decay,
)

shares_of_steps = st.floats(0, 1)


def table(**changes):
    return TrainTable(**({"steps": 100, "batch_tokens": 4096, "sequence_length": 64} | changes))


def test_the_schedule_rises_stays_and_falls():
    shares = [warmup_stable_decay(step, 100, 0.1, 0.3) for step in range(100)]
    assert shares[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert shares[10:70] == [1.0] * 60
    assert shares[70:] == pytest.approx([(100 - step) / 30 for step in range(70, 100)])


def test_cosine_rises_and_falls_to_its_floor():
    shares = [learning_rate_share(step, table(schedule="cosine", warmup=0.1, lr_floor=0.2)) for step in range(100)]
    assert shares[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert (shares[9], shares[54]) == (1, pytest.approx(0.6, abs=0.02))  # half way down at half time
    assert 0.2 < shares[99] < 0.201


@given(st.integers(1, 500), shares_of_steps, shares_of_steps, shares_of_steps, st.sampled_from(["wsd", "cosine"]))
def test_no_step_is_wasted_or_above_the_peak(steps, warmup, decay, floor, schedule):
    train = table(steps=steps, warmup=warmup, decay=decay, lr_floor=floor, schedule=schedule)
    shares = [learning_rate_share(step, train) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)
    peak = shares.index(max(shares))
    assert shares == [*sorted(shares[:peak]), *sorted(shares[peak:], reverse=True)]
    assert all(share >= floor - 1e-12 for share in shares[peak:])


@given(st.integers(1, 300), shares_of_steps, shares_of_steps)
def test_without_a_floor_nothing_has_changed(steps, warmup, decay):
    for step in range(steps):
        rise, fall = (step + 1) / max(1.0, warmup * steps), (steps - step) / max(1.0, decay * steps)
        assert warmup_stable_decay(step, steps, warmup, decay) == min(1.0, rise, fall)
    assert warmup_cosine(steps - 1, steps, warmup, 0.0) > 0


@given(st.integers(1, 300), st.floats(0, 1), st.integers(1, 12), st.integers(1, 12))
def test_batches_grow_in_whole_multiples_and_read_every_row_once(steps, ramp, first, multiples):
    train = table(
        steps=steps, batch_ramp=ramp, batch_tokens=first * multiples * 64, batch_ramp_start=first * 64 if ramp else None
    )
    read = [rows_of(step, train) for step in range(steps)]
    sizes = [len(rows) for rows in read]
    assert read[0].start == 0
    assert all(one.stop == other.start for one, other in pairwise(read))
    assert rows_before(steps, train) == sum(sizes)
    assert sizes == sorted(sizes)
    assert all(size % train.first_sequences == 0 and size <= train.sequences for size in sizes)
    assert all(size == train.sequences for size in sizes[-(-int(ramp * steps + 1) // 1) :])


def test_a_ramp_is_as_long_at_each_size():
    train = table(batch_ramp=0.6, batch_ramp_start=1024)
    assert [len(rows_of(step, train)) for step in range(100)] == [16] * 20 + [32] * 20 + [48] * 20 + [64] * 40
    assert len(rows_of(0, table(batch_ramp=0.6))) == 8


def test_multi_token_prediction_weighs_less_while_the_rate_decays():
    train = table(mtp_weight=0.3, mtp_decay_weight=0.1, decay=0.3)
    assert [mtp_weight(step, train) for step in (0, 69, 70, 99)] == [0.3, 0.3, 0.1, 0.1]
    assert mtp_weight(99, table(mtp_weight=0.3)) == 0.3


@pytest.mark.parametrize("start", [32, 3 * 64, 8192])
def test_a_ramp_that_does_not_come_out_is_refused(start):
    with pytest.raises(ValueError, match="batch_ramp: 64 sequences of a batch are no multiple of the"):
        table(batch_ramp=0.5, batch_ramp_start=start)


@pytest.mark.parametrize(
    ("parallel", "world", "told"),
    [
        ({"dp_replicate": 32}, 32, "dp_replicate * dp_shard = 32 does not divide the 16 sequences of the first batch"),
        ({"pp": 2, "micro_batches": 4}, 2, "micro_batches=4: a pipeline needs a multiple of 8, pp=2 for the first"),
    ],
)
def test_a_first_batch_that_the_ranks_cannot_share_is_refused(tiny, parallel, world, told):
    train = table(batch_ramp=0.5, batch_ramp_start=1024)
    with pytest.raises(ValueError, match=re.escape(told)):
        lay_out(ParallelTable(**parallel), tiny, train, world)
