"""Numbers as prose writes them, with how precisely: "1,200" may be rounded, "3/4", "2 1/2" and "twelve" are exact."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)  # fmt: skip
_SMALL = {word: n for n, word in enumerate(_UNITS.split())}
_TENS = {word: 10 * n for n, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}  # noqa: SIM905
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_TENS_PATTERN = rf"(?:{'|'.join(_TENS)})(?:-(?:{'|'.join(list(_SMALL)[1:10])}))?"
PATTERN = (
    r"(?:(?<![\w.,\\])(?:\d+ \d+/\d+(?![\d/])|\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|(?:\d+(?:\.\d+)?|\.\d+)(?!\d))"
    rf"|\b(?:{_TENS_PATTERN}|{'|'.join(sorted(_SMALL, key=len, reverse=True))})\b)"
    rf"(?: (?:{'|'.join(_SCALES)})\b)?"
)
NUMBER = re.compile(PATTERN, re.IGNORECASE)


@dataclass(frozen=True)
class Number:
    """A number at `start:end` of a text. `half` is half of its last written decimal place, 0 for what was written
    without decimals; `rounded` half of the last digit that is no trailing zero."""

    start: int
    end: int
    value: Fraction
    half: Fraction
    rounded: Fraction
    places: int
    scale: int
    grouped: bool

    def written(self, value: Fraction) -> str:
        """Another value in the manner of this number: its decimal places, scale word and thousands separators."""
        value = value / self.scale
        # Half away from zero, as people round.
        digits = int(abs(value) * 10**self.places + Fraction(1, 2))
        whole, part = divmod(digits, 10**self.places)
        text = f"{whole:,}" if self.grouped or abs(value) >= 10_000 else str(whole)
        text = f"{text}.{part:0{self.places}d}" if self.places else text
        scale = next((f" {word}" for word, size in _SCALES.items() if size == self.scale != 1), "")
        return "-" * (value < 0 < digits) + text + scale


def find_numbers(text: str) -> Iterator[Number]:
    """All numbers of a text, left to right."""
    for match in NUMBER.finditer(text):
        number = parse(match.group(), match.start())
        if number is not None:
            yield number


def parse(text: str, start: int = 0) -> Number | None:
    """The number that is all of `text`; None if it is none, or divides by zero."""
    body, _, last = text.lower().rpartition(" ")
    scale = _SCALES.get(last, 1) if body else 1
    body = body if scale != 1 else text.lower()
    places, grouped, exact = 0, "," in body, False
    if body[0].isdigit() or body[0] == ".":
        if "/" in body:
            whole, _, part = body.rpartition(" ")
            above, _, below = part.partition("/")
            if int(below) == 0:
                return None
            value, exact = Fraction(whole or 0) + Fraction(int(above), int(below)), True
        else:
            plain = body.replace(",", "")
            places = len(plain.partition(".")[2])
            value = Fraction(plain)
    else:
        tens, _, small = body.partition("-")
        value = Fraction(_TENS.get(tens, 0) + _SMALL.get(small or tens, 0))
    half = Fraction(1, 2 * 10**places) if places else Fraction(0)
    rounded = Fraction(1, 2 * 10**places)
    if not places and not exact and value:
        digits = str(int(value))
        rounded = Fraction(10 ** (len(digits) - len(digits.rstrip("0"))), 2)
    if scale != 1:
        half = rounded  # "3 million" is no exact count.
    return Number(start, start + len(text), value * scale, half * scale, rounded * scale, places, scale, grouped)
