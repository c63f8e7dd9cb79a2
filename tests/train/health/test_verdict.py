"""Who is blamed for what, from a table of where all ranks stand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from troth.train.health.board import RECORD
from troth.train.health.verdict import judge_hang, judge_pace, name_ranks


def table(ranks, step=7, place=1, phase=b"backward", alive=0.1, own=1.0):
    records = np.zeros(ranks, RECORD)
    records["rank"] = np.arange(ranks)
    records["node"] = records["rank"] // 8
    for name, value in {"step": step, "place": place, "phase": phase, "alive": alive, "own": own}.items():
        records[name] = value
    return records


@given(st.sets(st.integers(0, 19), min_size=1), st.permutations(range(20)))
def test_whoever_is_silent_or_missing_is_named(gone, order):
    records = table(20)
    records["alive"][list(gone)] = 50
    assert judge_hang(records[order], 20, silence=30).ranks == tuple(sorted(gone))
    assert judge_hang(records[[rank for rank in order if rank not in gone]], 20, 30).ranks == tuple(sorted(gone))


def test_whoever_is_not_where_most_are_is_named():
    records = table(20)
    records[3:5] = table(20, place=0, phase=b"data")[3:5]
    verdict = judge_hang(records, 20, 30)
    assert verdict.ranks == (3, 4)
    assert verdict.why == (
        "not where most ranks are; ranks 0-2, 5-19 in backward of step 7, ranks 3-4 in data of step 7"
    )
    records[3:5] = table(20, step=8)[3:5]  # Ahead is as odd as behind: they left out what the others wait in.
    assert judge_hang(records, 20, 30).ranks == (3, 4)


def test_where_all_wait_in_one_phase_nobody_is_named():
    verdict = judge_hang(table(20), 20, 30)
    assert verdict.ranks == ()
    assert verdict.why == "all ranks wait in one phase; ranks 0-19 in backward of step 7"


@given(st.lists(st.floats(0.5, 3), min_size=1, max_size=30), st.floats(1.1, 3))
def test_stragglers_are_those_above_a_multiple_of_the_median(own, slow):
    named = {verdict.ranks[0] for verdict in judge_pace(table(len(own), own=own), slow)}
    median = sorted(own)[(len(own) - 1) // 2]
    assert named == {rank for rank, seconds in enumerate(own) if seconds > slow * median}


def test_of_two_ranks_one_can_be_slow_and_unknown_times_do_not_count():
    assert [v.ranks for v in judge_pace(table(4, own=[1, np.nan, 2, np.nan]), 1.5)] == [(2,)]
    assert judge_pace(table(4, own=np.nan), 1.5) == []


@given(st.sets(st.integers(0, 60), min_size=1))
def test_ranks_are_named_in_stretches(ranks):
    words = name_ranks(sorted(ranks), most=100).split(" ", 1)[1].split(", ")
    ends = [[int(end) for end in word.split("-")] for word in words]
    assert [rank for stretch in ends for rank in range(stretch[0], stretch[-1] + 1)] == sorted(ranks)


def test_many_stretches_are_counted():
    assert name_ranks([3]) == "rank 3"
    assert name_ranks(range(0, 80, 2), most=2) == "ranks 0, 2 and 38 more stretches"
