"""What a run reads of each collection, and what its tokenizer learns from."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.system import Stage
from troth.train.mixture import Mixture, sample, shares

TEXTS = [("prose", "p" * 100), ("prose", "q" * 100), ("code", "c" * 1_000), ("tables", "t" * 50)]


def test_weights_decide_and_what_has_none_is_left_out():
    assert shares({"prose": 10, "code": 90}, {"prose": 3, "code": 1}) == {"code": 0.25, "prose": 0.75}
    assert shares({"prose": 10, "code": 90}, {"prose": 3}) == {"prose": 1.0}


def test_where_no_weight_names_a_collection_sizes_decide():
    assert shares({"prose": 10, "code": 30}, {"poems": 1}) == {"code": 0.75, "prose": 0.25}


def test_a_tokenizer_reads_collections_by_their_weights_and_small_ones_again():
    read = Counter()
    for text in sample(TEXTS, {"prose": 0.8, "code": 0.2}, characters=10_000):
        read[text[0]] += len(text)
    assert read["p"] == read["q"] == 4_000
    assert read["c"] == 2_000
    assert read["t"] == 50


@pytest.mark.parametrize("weights", [{}, {"prose": 1.0}])
def test_no_collection_is_missed(weights):
    assert {text[0] for text in sample(TEXTS, weights, characters=2_000)} == set("pqct")


def test_of_a_large_collection_the_beginning_is_enough():
    """Its texts are not held, and its size still counts."""
    texts = [*(("web", text) for text in "ab" * 500), ("code", "c" * 250)]
    assert Counter(text[0] for text in sample(texts, {}, characters=100)) == {"a": 40, "b": 40, "c": 1}


WEIGHTS = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(1e-3, 1), min_size=1)


def stage(start, weights):
    return Stage(**{"from": start, "weights": weights})


@given(WEIGHTS, st.integers(0, 10**15), st.integers(1, 300))
def test_over_any_stretch_of_rows_each_collection_has_its_share(weights, first, count):
    mixture = Mixture(dict.fromkeys("abcdefgh", 1), weights)
    turns = [mixture[row] for row in range(first, first + count)]
    for name, share in shares(dict.fromkeys("abcdefgh", 1), weights).items():
        numbers = [number for turn, number in turns if turn == name]
        assert abs(len(numbers) - count * share) < 3
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
        if numbers:
            assert abs(numbers[0] - first * share) < 3


@given(WEIGHTS, st.lists(st.tuples(st.floats(0.05, 0.95), WEIGHTS), max_size=3), st.integers(1, 200))
def test_each_collection_goes_on_across_stages(weights, later, rows):
    stages = [stage(start, own) for start, own in sorted(later, key=lambda item: item[0])]
    mixture = Mixture(dict.fromkeys("abcdefgh", 1), weights, stages, rows)
    seen = Counter()
    for row in range(rows + 20):
        name, number = mixture[row]
        assert number == seen[name]
        seen[name] += 1
    assert set(seen) <= set(mixture.names)


def test_a_stage_holds_from_its_share_of_the_run_to_the_next():
    mixture = Mixture({"web": 9, "code": 1}, {"web": 1.0}, [stage(0.7, {"code": 1.0}), stage(0.9, {"web": 1.0})], 1_000)
    turns = [mixture[row][0] for row in range(1_100)]
    assert turns == ["web"] * 700 + ["code"] * 200 + ["web"] * 200


def test_a_stage_of_other_collections_is_named():
    with pytest.raises(ValueError, match=r"from=0.5 gives weight to none of the collections web, code"):
        Mixture({"web": 9, "code": 1}, {"web": 1.0}, [stage(0.5, {"cod": 1.0})], 1_000)
