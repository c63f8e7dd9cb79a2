"""A quantity given twice, in two units: "5 miles (8 km)". Conversion by pint; what counts as agreeing follows from how
precisely both are written, since either may be the rounded one."""

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache

from troth.curate.validate.verifiers.exact import Checked, agree, differ, hedged
from troth.curate.validate.verifiers.numbers import PATTERN, Number, parse

_NAMES = {
    "mile": "miles? mi", "kilometer": "kilomet(?:re|er)s? kms?", "meter": "met(?:re|er)s? m",
    "centimeter": "centimet(?:re|er)s? cm", "millimeter": "millimet(?:re|er)s? mm", "foot": "foot feet ft",
    "inch": "inch(?:es)? in", "yard": "yards? yd", "nautical_mile": "nautical_miles? nmi", "acre": "acres?",
    "hectare": "hectares? ha", "mile**2": "square_miles? sq_mi mi2 mi²",
    "kilometer**2": "square_kilomet(?:re|er)s? sq_km km2 km²", "meter**2": "square_met(?:re|er)s? sq_m m2 m²",
    "foot**2": "square_f(?:ee|oo)t sq_ft ft2 ft²", "kilogram": "kilograms? kilogrammes? kilos? kg",
    "gram": "grams? grammes? g",
    "pound": "pounds? lbs? lb", "ounce": "ounces? oz", "stone": "stone", "metric_ton": "tonnes? metric_tons?",
    "long_ton": "long_tons?", "short_ton": "short_tons?", "liter": "lit(?:re|er)s? L",
    "gallon": "(?:U\\.?S\\.?_)?gallons? gal",
    "imperial_gallon": "imperial_gallons? imp_gal", "degC": "°_?C degrees?_Celsius degrees?_centigrade",
    "degF": "°_?F degrees?_Fahrenheit", "kelvin": "K kelvins?", "mile/hour": "mph miles?_per_hour",
    "kilometer/hour": "km/h kph kilomet(?:re|er)s?_per_hour", "knot": "knots? kn",
    "meter/second": "m/s met(?:re|er)s?_per_second",
    "meter**3": "cubic_met(?:re|er)s? cu_m m3 m³", "foot**3": "cubic_f(?:ee|oo)t cu_ft", "kilowatt": "kW kilowatts?",
    "horsepower": "hp horsepower",
}  # fmt: skip
_SPELLINGS = [(alias.replace("_", " "), unit) for unit, names in _NAMES.items() for alias in names.split()]
_ALIASES = [(re.compile(f"{spelling}$"), unit) for spelling, unit in _SPELLINGS]
_UNIT = "|".join(sorted((spelling for spelling, _ in _SPELLINGS), key=len, reverse=True))


def _quantity(i: int) -> str:
    return rf"(?P<n{i}>[-−]?{PATTERN})(?:[ -]|(?=°|[a-zA-Z]))(?P<u{i}>{_UNIT})(?![\w²³/^*·-])"


_TWICE = re.compile(
    rf"(?<![\w.,–/×\\-]){_quantity(1)}(?: (?:long|tall|wide|high|deep|away))?(?: \(|, or |, which is |/| = )"
    rf"(?:(?:about|around|approximately|roughly|c\.|ca\.|or|≈|~) ?)?{_quantity(2)}"
    r"(?= ?\)|[,.;]? (?!\d|to |and \d|or \d)|[,.;]$|$)"
)
_LARGER = re.compile(rf"(?<![\w.,–/×\\-])({PATTERN})[ -]({_UNIT})(?:,| and|, and)? ?$")
_PART_OF = re.compile(
    r"(?:\b(?:by|increase|rise|drop|change|difference|fall|decrease)(?: of)? |"
    rf"\d(?: ?(?:{_UNIT}))?(?: to| and| or|–|-|,) ?)$"
)
_NEAR = re.compile(
    r"\b(?:about|around|approx\w*|roughly|nearly|almost|some|over|under|more than|less than|up to|c\.|ca\.)|≈|~"
)
_MAY_BE_ROUND, _MAY_BE_ROUND_ABOUT = Fraction(1, 5), Fraction(3, 10)
_FEW_DIGITS, _DIGITS = Fraction(3, 20), Fraction(1, 50)
"""A share by which two quantities differ surely: people write a quarter of an ounce for 8 g."""
_DEGREES = ("degC", "degF", "kelvin")
_ALSO = {"gallon": "imperial_gallon"}


def units(text: str) -> Iterator[Checked]:
    """Whether the second of two equal quantities is the first in another unit. It is the second that is judged."""
    if not any(mark in text for mark in "(,/=") or hedged(text):
        return
    for match in _TWICE.finditer(text):
        first, second = (parse(match[f"n{i}"].lstrip("-−"), match.start(f"n{i}")) for i in (1, 2))
        one, two = unit_of(match["u1"]), unit_of(match["u2"])
        if first is None or second is None or one is None or two is None or one == two:
            continue
        a, b = (-x.value if match[f"n{i}"][0] in "-−" else x.value for i, x in ((1, first), (2, second)))
        before = text[max(0, match.start() - 40) : match.start()]
        if larger := _LARGER.search(before):
            whole, unit = parse(larger[1]), unit_of(larger[2])
            more = convert(whole.value, unit, one) if whole and unit else None
            if more is None or more < a:
                continue
            a += more
        elif _PART_OF.search(before):
            continue  # The end of a range, or a difference of temperatures.
        there = [value for value in _meanings(a, one, two) if value is not None]
        if not there:
            continue
        near = bool(_NEAR.search(text[max(0, match.start() - 14) : match.end()]))
        start, end = match.span("n2")
        given = f"{larger.group() if larger else ''}{match['n1']} {match['u1']}"
        shown = f"{given} is {_shown(second, there[0])} {match['u2']}"
        if any(_close(value, b, second, near) for value in there) or any(
            _close(value, a, first, near) for value in _meanings(b, two, one) if value is not None
        ):
            yield agree(start, end, shown)
        elif not any(_may_be(a, first, b, second, x, y) for x, y in _pairs(one, two)) and (
            one in _DEGREES or abs(there[0] - b) > abs(there[0]) * (_FEW_DIGITS if _digits(second) < 3 else _DIGITS)
        ):
            yield differ(start, end, _shown(second, there[0]), shown)


def unit_of(text: str) -> str | None:
    """The unit, as pint names it, that a word or sign stands for; None if it is none that is known."""
    return next((unit for pattern, unit in _ALIASES if pattern.match(text)), None)


def _pairs(one: str, two: str) -> list[tuple[str, str]]:
    """A gallon may be either of two."""
    return [(x, y) for x in (one, _ALSO.get(one)) if x for y in (two, _ALSO.get(two)) if y]


def _meanings(value: Fraction, one: str, two: str) -> list[Fraction | None]:
    return [convert(value, x, y) for x, y in _pairs(one, two)]


def convert(value: Fraction, one: str, two: str) -> Fraction | None:
    """A value in another of pint's units; None where the two measure different things."""
    import pint

    try:
        return Fraction(float(_registry().Quantity(float(value), one).to(two).magnitude)).limit_denominator(10**9)
    except pint.DimensionalityError:
        return None


@cache
def _registry():  # type: ignore[no-untyped-def]
    import pint

    return pint.UnitRegistry()


def _close(exact: Fraction, stated: Fraction, number: Number, near: bool) -> bool:
    """Whether a written number is an exact one, rounded or cut off."""
    slack = number.half or number.rounded
    limit = _MAY_BE_ROUND_ABOUT if near else _MAY_BE_ROUND
    if not number.places and number.rounded <= abs(stated) * limit:
        slack = number.rounded
    elif not number.places:
        slack = Fraction(1, 2) * number.scale
    return abs(exact - stated) <= slack * Fraction(102, 100)


def _may_be(a: Fraction, first: Number, b: Fraction, second: Number, one: str, two: str) -> bool:
    """Whether both numbers may have been rounded from something that agrees."""
    half_a, half_b = (x.half or Fraction(1, 2) * x.scale for x in (first, second))
    low, high = convert(a - half_a, one, two), convert(a + half_a, one, two)
    return low is None or high is None or (low <= b + half_b and b - half_b <= high)


def _digits(number: Number) -> int:
    """Digits of a number that are no zeros at its ends."""
    return len(str(int(number.value / number.scale * 10**number.places)).strip("0"))


def _shown(number: Number, value: Fraction) -> str:
    """To as many digits as the number that it replaces has, at least two."""
    text = number.written(value)
    if not number.places and abs(value / number.scale) < 10 and abs(value) % number.scale:
        text = f"{float(value / number.scale):.2g}" + number.written(value)[len(number.written(value).split(" ")[0]) :]
    return text
