"""What a piece of text states, in a form in which two ways of writing the same can be told from two values.

Numbers carry how closely they are stated: 19.6 million agrees with 19,625,353. Words agree in any order, case and
punctuation; a name agrees with its surname.
"""

import re
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from troth.curate.memory import remembered
from troth.curate.validate.values import SPELLED, spelled
from troth.curate.validate.verifiers.units import convert, unit_of

_SCALE = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_NUMBER = re.compile(r"([-−]?\d[\d,]*)(\.\d+)?(?:[ -]?(hundred|thousand|million|billion|trillion)\b)?", re.IGNORECASE)
_BEGINS = re.compile(rf"(?:(?:a|an|about|some) )?(?P<number>{SPELLED.pattern})(?![\w-])", re.IGNORECASE)
_WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_MONTH = {name: n for n, name in enumerate(_MONTHS, 1)} | {name[:3]: n for n, name in enumerate(_MONTHS, 1)}
_IDLE = frozenset(("the", "a", "an", "of", "and", "or", "in", "about", "some", "est"))
_MORE = 0.5000001
_BY_CHANCE = 1e-9
_LARGE = 10_000


@dataclass(frozen=True, slots=True)
class Reading:
    """A number with the worth of one unit of its last figure (`step`, 0 where there is no number), or words in order.

    `words` are what is written besides the number, such as its unit; `named` says that the value is a name, of which
    a part may stand for the whole.
    """

    number: float
    step: float
    words: tuple[str, ...]
    named: bool = False

    @property
    def numeric(self) -> bool:
        """Whether a number is all that matters."""
        return self.step > 0


@remembered(1 << 17)
def read(text: str) -> Reading:
    """The reading of a value as written.

    A date is one number, its days; a text with several numbers is read as words. What begins with a number in words
    says that number.
    """
    if when := _date(text):
        return Reading(float(when.toordinal()), 1.0, ("date",))
    text = _in_figures(text)
    match = _NUMBER.search(text)
    if match and not _NUMBER.search(text, match.end()) and not _glued(text, match):
        whole, part, scale = match.group(1).replace(",", "").replace("−", "-"), match.group(2) or "", match.group(3)
        factor = _SCALE[scale.lower()] if scale else 1.0
        rest = tuple(word for word in _split(text[: match.start()] + " " + text[match.end() :]) if word not in _IDLE)
        return Reading(float(whole + part) * factor, factor * 10.0 ** -max(0, len(part) - 1), rest)
    words = tuple(_split(text))
    named = bool(words) and not any(c.isdigit() for c in text) and len(words) <= 5 and _is_name(text)
    return Reading(0.0, 0.0, words, named)


def agree(a: Reading, b: Reading) -> bool:
    """Whether two readings say the same: numbers to the closeness of the coarser one, in any two units of one kind,
    names where one is part of the other, words as a set."""
    if a.numeric and b.numeric:
        times = _worth(a.words, b.words)
        return bool(times) and abs(a.number * times - b.number) <= _MORE * max(_grain(a) * times, _grain(b))
    if a.numeric or b.numeric:
        return False
    x, y = set(a.words), set(b.words)
    if x == y:
        return True
    return a.named and b.named and bool(x) and bool(y) and (x <= y or y <= x)


def within(a: Reading, b: Reading) -> bool:
    """Whether one of two texts is a piece of the other, so that they may differ only in where a value was cut off."""
    short, long = sorted((a.words, b.words), key=len)
    size = len(short)
    return not a.numeric and not b.numeric and any(
        long[at : at + size] == short for at in range(len(long) - size + 1)
    )  # fmt: skip


def finer(a: Reading, b: Reading) -> bool:
    """Whether `a` says more than `b`, with which it agrees."""
    if a.numeric:
        return _grain(a) * _worth(a.words, b.words) < _grain(b)
    return len(a.words) > len(b.words)


def keys(reading: Reading) -> tuple[str, ...]:
    """Hashable keys such that readings that agree mostly share one: a number to three, two and one figures, words
    sorted, each name's last word."""
    if reading.numeric:
        return tuple(f"{reading.number:.{digits}e}" for digits in (2, 1, 0))
    if reading.named:
        return (" ".join(sorted(reading.words)), reading.words[-1])
    return (" ".join(sorted(set(reading.words))),)


def _grain(reading: Reading) -> float:
    """How coarsely a number is meant: the noughts of a large one may be rounding, to no fewer than three figures."""
    number, step = abs(reading.number), reading.step
    if step < 1 or number < _LARGE:
        return step
    while number % (step * 10) < _BY_CHANCE and number / (step * 10) >= 100:
        step *= 10
    return step


@remembered(1 << 14)
def _worth(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """How many of another unit one is: 1 where only one is told, or their words are partly the same; 0 where they
    differ."""
    if not one or not other or one == other:
        return 1.0
    mine, theirs = unit_of(" ".join(one)), unit_of(" ".join(other))
    if mine is None or theirs is None:
        return float(bool(set(one) & set(other)))
    nothing, worth = convert(Fraction(0), mine, theirs), convert(Fraction(1), mine, theirs)
    return float(worth) if worth and nothing == 0 else 0.0


def _in_figures(text: str) -> str:
    """A text whose number stands in words at its beginning, with that in figures."""
    match = _BEGINS.match(text)
    return f"{spelled(match.group('number'))}{text[match.end() :]}" if match else text


def _glued(text: str, match: re.Match[str]) -> bool:
    """A number inside a word, as in UTC+5, belongs to that word."""
    before = text[: match.start()].rstrip("+-")[-1:]
    return before.isalpha() or text[match.end() : match.end() + 1].isalpha()


def _split(text: str) -> list[str]:
    return [word.removesuffix("'s").removesuffix("’s") for word in _WORDS.findall(text.lower())]


def _is_name(text: str) -> bool:
    """Capitals wherever a word is not a particle."""
    long = [word for word in _WORDS.findall(text) if len(word) > 3 or word[0].isupper()]
    return bool(long) and all(word[0].isupper() or "-" in text for word in long)


def _date(text: str) -> date | None:
    parts = text.replace(",", " ").split()
    if len(parts) != 3:
        return None
    day, month = (parts[0], parts[1]) if parts[0].isdigit() else (parts[1], parts[0])
    number = _MONTH.get(month.lower().rstrip("."))
    if number is None or not day.isdigit() or not parts[2].isdigit():
        return None
    try:
        return date(int(parts[2]), number, int(day))
    except ValueError:
        return None
