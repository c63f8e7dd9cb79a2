"""How often training reads a publisher, by how often it errs."""

from troth.curate.integrate.weight import publisher_weights


def test_a_publisher_that_errs_less_is_read_more_often():
    weights = publisher_weights(dict.fromkeys("ABCD", 1), {"A": 0.02, "B": 0.1, "C": 0.3})
    assert 1.5 >= weights["A"] > weights["B"] > weights["C"] >= 2 / 3
    assert "D" not in weights  # of which nothing is known


def test_where_all_err_alike_all_are_read_alike():
    assert publisher_weights({"A": 1, "B": 3}, {"A": 0.2, "B": 0.2}) == {"A": 1, "B": 1}
    assert publisher_weights({"A": 1, "B": 3}, {"A": 0.6, "B": 0.6}) == {}
