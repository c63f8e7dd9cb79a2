"""Charts put values where their axes say."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.plan.page.pipeline import BOXES, pipeline
from troth.plan.page.svg import HEIGHT, WIDTH, Part, Series, axis, bars, lines, stacked_bar

POSITIVE = st.floats(1e-6, 1e12)


@given(st.lists(POSITIVE, min_size=2, max_size=8), st.booleans())
def test_an_axis_has_room_and_ticks_for_all(values: list[float], log: bool) -> None:
    one = axis("x", values, str, log)
    assert all(0 <= one.at(value) <= 1 for value in values)
    ticks = one.ticks()
    assert all(-1e-6 <= one.at(tick) <= 1 + 1e-6 for tick in ticks)
    assert ticks == sorted(ticks)
    assert len(ticks) <= 40


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=20))
def test_points_lie_inside_and_in_order(points: list[tuple[float, float]]) -> None:
    x, y = ([point[i] for point in points] for i in (0, 1))
    series = Series("a < b", "products", x, y, [f"{value}" for value in y])
    drawn = ElementTree.fromstring(lines([series], axis("x", x, str, True), axis("y", y, str, True), "a & b"))
    marks = [(float(mark.attrib["cx"]), float(mark.attrib["cy"])) for mark in drawn.iter("circle")]
    assert len(marks) == len(points)
    assert all(0 <= cx <= WIDTH and 0 <= cy <= HEIGHT for cx, cy in marks)
    for (cx, cy), (px, py) in zip(marks, points, strict=True):
        assert all((cx - ox) * (px - qx) >= 0 and (cy - oy) * (py - qy) <= 0
                   for (ox, oy), (qx, qy) in zip(marks, points, strict=True))  # fmt: skip


def test_a_bar_is_as_wide_as_its_share() -> None:
    drawn = ElementTree.fromstring(stacked_bar([Part("a", 3, "ends", "3 s"), Part("b", 1, "idle", "1 s")], 8, "bar"))
    _, a, b = drawn.iter("rect")
    assert float(b.attrib["x"]) == pytest.approx(1000 * 3 / 8)
    assert float(a.attrib["width"]) == pytest.approx(375, abs=2)
    assert a.findtext("title") == "a: 3 s"


def test_bars_are_in_proportion() -> None:
    drawn = ElementTree.fromstring(bars([Part("a", 4, "ends", "4"), Part("b", 1, "ends", "1")], str, "two"))
    a, b = (float(bar.attrib["width"]) for bar in drawn.iter("rect"))
    assert a == pytest.approx(4 * b)


@pytest.mark.parametrize(("ranks", "chunks", "micro_batches"), [(4, 2, 8), (64, 8, 512), (2, 1, 100)])
def test_a_large_pipeline_is_shown_in_part(ranks: int, chunks: int, micro_batches: int) -> None:
    picture = pipeline(ranks, chunks, micro_batches)
    drawn = ElementTree.fromstring(picture.svg)
    boxes = sum(path.attrib["d"].count("z") for path in drawn.iter("path"))
    assert boxes == 2 * picture.ranks * chunks * picture.micro_batches <= BOXES
    assert picture.micro_batches in (micro_batches, 2 * ranks, ranks)
    names = [text.text for text in drawn.iter("text") if text.attrib.get("class") == "name"]
    assert names[0] == "rank 0"
    assert names[-1] == f"rank {ranks - 1}"
    assert picture.idle == pytest.approx((ranks - 1) / (ranks - 1 + chunks * micro_batches))
