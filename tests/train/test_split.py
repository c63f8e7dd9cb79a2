"""A share of rows is held out by what they begin with: the same prompt is never on both sides."""

import pytest

from troth.train.sources import Row
from troth.train.split import Split


def held(values, share=0.5):
    sides = [Split(share, held)(Row("a line", "file", values)) for held in (True, False)]
    assert sum(sides) == 1, "each row is on one side"
    return sides[0]


def test_the_share_is_what_was_asked_for():
    for share in (0.01, 0.3):
        found = sum(held({"text": f"text {number}"}, share) for number in range(20_000))
        assert found == pytest.approx(share * 20_000, rel=0.15)


@pytest.mark.parametrize(
    "row",
    [
        lambda asked, answer: {"prompt": asked, "chosen": answer, "rejected": "no"},
        lambda asked, answer: {"prompt": asked, "completion": answer},
        lambda asked, answer: {"instruction": "add", "input": asked, "output": answer},
        lambda asked, answer: {
            "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        },
        lambda asked, answer: {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]},
        lambda asked, answer: {
            "chosen": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}], "rejected": []
        },
    ],
)
def test_what_answers_the_same_is_on_one_side_and_what_asks_otherwise_is_on_both(row):
    for asked in ("1 + 1?", "2 + 2?", "3 + 3?", "4 + 4?"):
        assert len({held(row(asked, answer)) for answer in ("a", "b", "c", "d", "e", "f")}) == 1
    assert {held(row(str(number), "a")) for number in range(20)} == {True, False}
