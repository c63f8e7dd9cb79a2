"""What counts as a spike and what is done about it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.train.health.spikes import SpikeRule, SpikeState, batch_of, from_tensor, judge, rewound, to_tensor

RULE = SpikeRule(window=16, least=4, most=3)
losses = st.floats(0.1, 20)
norms = st.floats(1e-3, 1e3)
values = st.tuples(losses, norms)
broken = st.sampled_from([math.nan, math.inf, -math.inf])


START = SpikeState()


def after(rule, steps, state=START):
    for batch, (loss, norm) in enumerate(steps):
        _, _, state = judge(rule, state, batch, loss, norm)
    return state


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_falling_curve_has_no_spikes_and_a_jump_is_one(seed):
    random, rule, state = np.random.default_rng(seed), SpikeRule(), START
    for step in range(1000):
        loss = 2 + 6 * math.exp(-step / 200) + random.normal(0, 0.03)
        norm = math.exp(random.normal(0, 0.3))
        action, why, state = judge(rule, state, step, loss, norm)
        assert (action, why) == ("go", "")
    action, why, _ = judge(rule, state, 1000, loss + 1, norm)
    assert action == "skip"
    assert why.startswith(f"loss {loss + 1:.4g} is ")
    action, why, _ = judge(rule, state, 1000, loss, 100.0)
    assert action == "skip"
    assert why.startswith("gradient norm 100 is ")


@given(st.lists(values, max_size=40))
def test_a_step_no_worse_than_the_median_is_never_a_spike(steps):
    state = after(RULE, steps)
    if state.losses:
        action, _, _ = judge(RULE, state, 99, float(np.median(state.losses)), float(np.min(state.norms)))
        assert action == "go"


@given(st.lists(values, max_size=40), st.one_of(st.tuples(broken, norms), st.tuples(losses, broken)))
def test_what_is_not_finite_is_never_learned_from(steps, step):
    state = after(RULE, steps)
    action, why, then = judge(RULE, state, 99, *step)
    assert action in ("skip", "stop")
    assert "not both finite" in why
    assert (then.losses, then.norms) == (state.losses, state.norms)


@given(st.lists(values, min_size=1, max_size=40), st.sampled_from([-0.05, 0.5, 8.0]))
def test_the_level_of_the_loss_does_not_matter(steps, level):
    """Numbers are rounded so that moving them is exact."""
    steps = [(round(loss * 64) / 64, norm) for loss, norm in steps]
    moved = [(loss + round(level * 64) / 64, norm) for loss, norm in steps]
    assert len(after(RULE, steps).losses) == len(after(RULE, moved).losses)


@pytest.mark.parametrize("action", ["skip", "rewind"])
def test_after_so_many_times_it_stops(action):
    rule = SpikeRule(action=action, most=3)
    state, done = START, []
    for batch in range(4):
        what, why, state = judge(rule, state, batch, math.nan, 1.0)
        done.append(what)
    assert done == [action] * 3 + ["stop"]
    assert why.endswith(f"after 3 times of {action}")
    what, why, _ = judge(SpikeRule("stop"), START, 0, math.nan, 1.0)
    assert what == "stop"
    assert why.endswith("are not both finite")


def test_skips_are_forgotten_after_a_quiet_window():
    state = after(RULE, [(math.nan, 1.0)] * 3 + [(2.0, 1.0)] * 15)
    assert state.skips == 3
    assert judge(RULE, state, 0, math.nan, 1.0)[0] == "stop"
    assert after(RULE, [(2.0, 1.0)], state).skips == 0


def test_going_back_leaves_out_the_batch_and_keeps_what_was_left_out_before():
    rule = SpikeRule(action="rewind")
    then = after(rule, [(2.0, 1.0)] * 3)
    now = SpikeState(left_out=(1,))
    action, _, now = judge(rule, now, 5, math.inf, 1.0)
    assert action == "rewind"
    again = rewound(now, then)
    assert again == SpikeState(then.losses, then.norms, quiet=3, left_out=(1, 5))
    assert [batch_of(step, again.left_out) for step in range(6)] == [0, 2, 3, 4, 6, 7]


@given(st.sets(st.integers(0, 30)))
def test_batches_follow_each_other_but_for_those_left_out(left_out):
    read = [batch_of(step, tuple(sorted(left_out))) for step in range(50)]
    assert read == [batch for batch in range(100) if batch not in left_out][:50]


@given(st.lists(st.one_of(values, st.tuples(broken, norms)), max_size=40), st.sampled_from(["skip", "rewind"]))
def test_the_state_is_stored_whole(steps, action):
    rule = SpikeRule(action=action, window=16, least=4, most=3)
    state = after(rule, steps)
    stored = to_tensor(rule, state)
    assert stored.shape == (39,)
    assert from_tensor(rule, stored) == state


def test_a_state_of_another_rule_is_refused():
    with pytest.raises(ValueError, match=r"39 numbers were not stored with most=3, window=32"):
        from_tensor(SpikeRule(window=32, most=3), to_tensor(RULE, START))
    with pytest.raises(ValueError, match=r"least=32 must be positive and at most window=8"):
        SpikeRule(window=8)
