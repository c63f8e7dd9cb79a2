"""What a run reads of each collection, and what its tokenizer learns from."""

from collections import Counter

import pytest

from troth.train.mixture import sample, shares

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
