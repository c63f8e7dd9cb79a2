"""Raw scores become probabilities, several opinions one."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from troth.curate.validate.calibrate import Combination, calibrate, combine, ece
from troth.curate.validate.opinions import Opinions, calibrated_on, cross_fitted


def overconfident(count, seed=0):
    """Scores between 0 and 1 that mean less than they say."""
    random = np.random.default_rng(seed)
    p = random.random(count)
    return 1 / (1 + np.exp(-5 * np.log(p / (1 - p)))), random.random(count) < p


@pytest.mark.parametrize(("count", "method"), [(200, "platt"), (5000, "isotonic")])
def test_scores_that_say_too_much_are_put_right(count, method):
    raw, true = overconfident(count)
    fitted, report = calibrate(raw, true)
    assert report.method == method
    assert report.ece_after < report.ece_before / 2
    assert report.brier_after < report.brier_before
    unseen, labels = overconfident(4000, seed=1)
    assert ece(np.array([fitted(x) for x in unseen]), labels.astype(float)) < 0.1


NEIGHBOURS = [
    *((x, True) for x in (0.0, 1.0, 136.0, 941.0, 1.0, -1000.0)),
    *((x, False) for x in (-999.9999999999999, 0.0, 1.0, 474.5, 0.0, 1.75)),
]


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.booleans()), min_size=10, max_size=60))
@example(NEIGHBOURS)
def test_no_score_is_certain_and_a_higher_one_never_less_likely(rows):
    raw, true = zip(*rows, strict=True)
    if len(set(true)) == 1:
        with pytest.raises(ValueError, match="of both kinds"):
            calibrate(raw, true)
        return
    fitted, _ = calibrate(raw, true)
    p = [fitted(x) for x in sorted(raw)]
    assert all(0 < x < 1 for x in p)
    assert p == sorted(p)


def opinions(count=3000, seed=0):
    """Three verifiers: a good one, one that speaks rarely and surely, one that knows nothing."""
    random = np.random.default_rng(seed)
    true = random.random(count) < 0.5
    said = []
    for label in true:
        one = {"good": 0.8 if (random.random() < 0.8) == label else 0.2, "noise": random.uniform(0.3, 0.7)}
        if random.random() < 0.2:
            one["sure"] = 0.98 if (random.random() < 0.98) == label else 0.02
        if random.random() < 0.1:
            one = {}
        said.append(one)
    return said, true


def test_opinions_count_by_what_they_are_worth():
    said, true = opinions()
    together = combine(said, true)
    assert together.weights["good"] > 0.7
    assert together.weights["sure"] > 0.7
    assert together.weights["noise"] < 0.3
    unseen, labels = opinions(seed=1)
    sure = [(p > 0.5) == label for one, label in zip(unseen, labels, strict=True)
            if one and abs((p := together.probability(one)) - 0.5) > 0.4]  # fmt: skip
    assert 0.1 < len(sure) / len(unseen) < 0.4  # Only where the sure one spoke is 0.9 within reach.
    assert np.mean(sure) > 0.88


def test_no_opinion_at_all_is_named():
    with pytest.raises(ValueError, match="no labelled claim"):
        combine([{}, {}], [True, False])
    assert Combination({"a": 1.0}, 0.0).probability({"b": 0.9}) == 0.5


def test_a_claim_is_measured_by_what_others_taught():
    random = np.random.default_rng(0)
    true = random.random(400) < 0.5
    scores = np.clip(true * 0.4 + random.normal(0.3, 0.3, 400), 0, 1)
    said = [Opinions(("lexical",), ("",), ("",), (score,), ("supported",), ("",), ("",)) for score in scores.tolist()]
    labelled = [(f"claim {n}", 0.5, *one) for n, one in enumerate(zip(said, true.tolist(), strict=True))]
    found = cross_fitted(labelled, rate=0.1)
    for half in found.halves:
        without = [rest for claim_id, *rest in labelled if found.blind_to(claim_id) is half]
        taught = [rest for claim_id, *rest in labelled if found.blind_to(claim_id) is not half]
        assert min(len(without), len(taught)) > 150
        assert half == calibrated_on([(p, said, t) for p, said, t in taught], 0.1)
    assert found.whole.reports["lexical"].claims == 400
