"""Charts as SVG text: bars, lines and points on linear or logarithmic axes, coloured by CSS classes of the page.

A mark carries its value as a `title`, and a chart says in `aria-label` what it shows; tables beside them hold the
numbers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 310, 220
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 14, 40
"""Of a chart with axes, in units that are pixels on a narrow screen."""


@dataclass(frozen=True)
class Part:
    """A piece of a bar: `role` is the CSS class of its colour, `said` the value as it is read."""

    name: str
    value: float
    role: str
    said: str


@dataclass(frozen=True)
class Series:
    """Points of one line or kind, and the CSS class of their colour; `marks` are their titles."""

    name: str
    role: str
    x: Sequence[float]
    y: Sequence[float]
    marks: Sequence[str]


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with values written by `write`."""

    name: str
    low: float
    high: float
    write: Callable[[float], str]
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value lies, 0 at `low` and 1 at `high`."""
        low, high, here = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (here - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values to write on it: decades, or halves and fifths of them where there are few."""
        if not self.log:
            return _round_steps(self.low, self.high)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5)):
            found = [digit * 10.0**power for power in decades for digit in digits]
            found = [value for value in found if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]
            if len(found) >= 3:
                break
        return found


def axis(name: str, values: Sequence[float], write: Callable[[float], str], log: bool = False) -> Axis:
    """An axis that has room for all values: from 0, or where it is logarithmic with a margin at both ends."""
    if log:
        margin = (max(values) / min(values)) ** 0.04 * 1.02
        return Axis(name, min(values) / margin, max(values) * margin, write, log=True)
    return Axis(name, 0.0, max(values) * 1.06 or 1.0, write)


def stacked_bar(parts: Sequence[Part], whole: float, label: str) -> str:
    """One bar of parts, `whole` of which is its full width; what the parts leave is empty."""
    pieces, x = [], 0.0
    for part in parts:
        width = 1000 * part.value / whole
        gap = min(1.5, width / 3)
        pieces.append(
            f'<rect class="{part.role}" x="{x:.1f}" y="0" width="{width - gap:.1f}" height="28">'
            f"<title>{escape(part.name)}: {escape(part.said)}</title></rect>"
        )
        x += width
    ground = '<rect class="ground" width="1000" height="28"/>'
    return (
        f'<svg class="bar" viewBox="0 0 1000 28" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{ground}{"".join(pieces)}</svg>'
    )


def lines(series: Sequence[Series], x: Axis, y: Axis, label: str) -> str:
    """Lines through points, each with a mark that tells its value; names stand in a legend of the page."""
    drawn = []
    for one in series:
        places = [_place(x, y, *point) for point in zip(one.x, one.y, strict=True)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        drawn.append(f'<polyline class="line {one.role}" points="{path}"/>' + _marks(one, places))
    return _chart("".join(drawn), x, y, label)


def points(series: Sequence[Series], guides: Sequence[Series], x: Axis, y: Axis, label: str) -> str:
    """Points with marks that tell their values, and lines without to read them by."""
    drawn = []
    for one in guides:
        path = " ".join("{:.1f},{:.1f}".format(*_place(x, y, *point)) for point in zip(one.x, one.y, strict=True))
        drawn.append(f'<polyline class="line {one.role}" points="{path}"/>')
    for one in series:
        places = [_place(x, y, *point) for point in zip(one.x, one.y, strict=True)]
        drawn.append(f'<g class="many">{_marks(one, places)}</g>')
    return _chart("".join(drawn), x, y, label)


def strips(rows: Sequence[Series], x: Axis, band: tuple[float, float], label: str, names: int = 124) -> str:
    """A row of points for each series along one axis, its name `names` wide at the left and a tick at its median;
    `band` is shaded."""
    height, across = 22, names + 216 - RIGHT
    bottom = height * len(rows)

    def at(value: float) -> float:
        return names + 8 + x.at(value) * (across - names - 8)

    drawn = [
        f'<rect class="ground" x="{at(band[0]):.1f}" y="0" width="{at(band[1]) - at(band[0]):.1f}" height="{bottom}"/>'
    ]
    for tick in x.ticks():
        drawn.append(
            f'<line class="grid" x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="0" y2="{bottom + 4}"/>'
            f'<text x="{at(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{escape(x.write(tick))}</text>'
        )
    for row, one in enumerate(rows):
        middle = row * height + height / 2
        shown = [min(max(value, x.low), x.high) for value in one.x]
        median = at(sorted(shown)[len(shown) // 2])
        marks = _marks(one, [(at(value), middle) for value in shown])
        drawn.append(
            f'<text x="{names}" y="{middle + 4}" text-anchor="end">{escape(one.name)}</text><g class="many">{marks}</g>'
            f'<line class="median" x1="{median:.1f}" x2="{median:.1f}" y1="{middle - 8}" y2="{middle + 8}"/>'
        )
    drawn.append(
        f'<text class="name" x="{(names + across) / 2}" y="{bottom + 34}" text-anchor="middle">{escape(x.name)}</text>'
    )
    return _svg("".join(drawn), across + RIGHT, bottom + 40, label)


def bars(parts: Sequence[Part], write: Callable[[float], str], label: str) -> str:
    """A row a part: its name, a bar from 0, and its value at the end."""
    most, height = max((part.value for part in parts), default=1.0) or 1.0, 24
    drawn = []
    for row, part in enumerate(parts):
        y, width = row * height, (WIDTH - 222) * part.value / most
        drawn.append(
            f'<text x="124" y="{y + 16}" text-anchor="end">{escape(part.name)}</text>'
            f'<rect class="{part.role}" x="132" y="{y + 4}" width="{max(width, 1):.1f}" height="16">'
            f"<title>{escape(part.name)}: {escape(part.said)}</title></rect>"
            f'<text x="{138 + width:.1f}" y="{y + 16}">{escape(write(part.value))}</text>'
        )
    return _svg("".join(drawn), WIDTH, height * len(parts), label)


def _svg(inside: str, width: float, height: float, label: str) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{inside}</svg>'


def _place(x: Axis, y: Axis, at: float, value: float) -> tuple[float, float]:
    across = LEFT + x.at(at) * (WIDTH - LEFT - RIGHT)
    return across, TOP + (1 - y.at(value)) * (HEIGHT - TOP - BOTTOM)


def _marks(one: Series, places: Sequence[tuple[float, float]]) -> str:
    return "".join(
        f'<circle class="{one.role}" cx="{px:.1f}" cy="{py:.1f}" r="3"><title>{escape(mark)}</title></circle>'
        for (px, py), mark in zip(places, one.marks, strict=True)
    )


def _chart(drawn: str, x: Axis, y: Axis, label: str) -> str:
    grid = []
    for value in y.ticks():
        py = TOP + (1 - y.at(value)) * (HEIGHT - TOP - BOTTOM)
        grid.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py:.1f}" y2="{py:.1f}"/>'
            f'<text x="{LEFT - 7}" y="{py + 4:.1f}" text-anchor="end">{escape(y.write(value))}</text>'
        )
    for value in x.ticks():
        px = LEFT + x.at(value) * (WIDTH - LEFT - RIGHT)
        grid.append(
            f'<line class="grid" x1="{px:.1f}" x2="{px:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}"/>'
            f'<text x="{px:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(x.write(value))}</text>'
        )
    middle = (HEIGHT - BOTTOM + TOP) / 2
    names = (
        f'<text class="name" x="{(WIDTH + LEFT - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{escape(x.name)}</text>"
        f'<text class="name" transform="translate(9 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.name)}</text>"
    )
    return _svg("".join(grid) + names + drawn, WIDTH, HEIGHT, label)


def _round_steps(low: float, high: float) -> list[float]:
    """Three to seven multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(digit for digit in (1, 2, 5, 10) if digit * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]
