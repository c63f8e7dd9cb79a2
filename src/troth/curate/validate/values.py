"""The checkable values in a sentence: years, dates, quantities with their units, and names."""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Literal

from troth.curate.memory import remembered

Kind = Literal["year", "date", "quantity", "name"]

_FROM_2 = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen"
)
_SMALL, _TENS = _FROM_2.split(), ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS = (
    {word: n for n, word in enumerate(_SMALL, 2)} | {word: 10 * n for n, word in enumerate(_TENS, 2)} | {"hundred": 100}
)
_DIGIT = "|".join(("one", *_SMALL[:8]))
_UP_TO_99 = rf"(?:{'|'.join(_TENS)})(?:[ -](?:{_DIGIT}))?|{'|'.join(_SMALL)}"
SPELLED = re.compile(  # few letters begin one; "one" by itself is mostly no number
    rf"(?=[tfsenho])(?:(?:(?:{_DIGIT}) )?hundred(?: (?:and )?(?:{_UP_TO_99}|one))?|{_UP_TO_99}"
    r"|one(?= (?:thousand|million|billion|trillion)\b))",
    re.IGNORECASE,
)
"""A number below a thousand in words."""
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(
    rf"\b(?:\d{{1,2}} (?:{_MONTHS})(?:,? \d{{4}})?|(?:{_MONTHS}) \d{{1,2}}(?:, \d{{4}})?|(?:{_MONTHS}) \d{{4}})\b"
)
_YEAR = re.compile(r"\b(?:AD \d{1,4}|\d{1,4} (?:BC|AD|BCE|CE)\b|(?:1\d|20)\d\d\b)")
_NUMBER = re.compile(
    rf"(?<![\w.,])\d+(?:,\d{{3}})*(?:\.\d+)?(?![\w%]*\d)|\b{SPELLED.pattern}\b", re.IGNORECASE
)
_UNIT = re.compile(
    r"(?:[ -](?:million|billion|trillion|thousand)\b)?(?:%|[ -]?(?:per cent|percent)\b|°C|°F|"
    r"[ -](?:square |cubic |light[ -])?(?!(?:in|on|at|by|to|of|and|or|the|a|an|is|was|are|were|when|that|which|as|for|"
    r"from|with|but|after|before|than|who|it|its|until|since|had|has|have|under|over|near|into)\b)"
    r"[a-z]+(?: (?:Celsius|Fahrenheit|per \w+)\b)?)?"
)
_MEASURE = re.compile(
    r"met(?:re|er)|foot|feet|inch|mile|yard|gram|ton|pound|litre|liter|gallon|second|minute|hour|day|week|month|year|"
    r"centur|degree|celsius|fahrenheit|kelvin|%|cent|illion|thousand|bit|byte|volt|watt|ampere|hertz|joule|newton|pascal|knot|°"
)
_COUNTED = re.compile(r"met(?:re|er)s|feet|miles|kilomet|tons|people|degrees|%|per ?cent|years")
_NAME_WORD = r"[A-Z][\w'’.-]*\w|(?!I\b)[A-Z]\b"
_PARTICLES = "of|de|la|le|du|da|van|von|der|del|el|es|al|bin|and|the|in"
_NAME = re.compile(rf"(?:{_NAME_WORD})(?:(?: (?:{_PARTICLES})){{0,2}} (?:{_NAME_WORD}|\d+\b))*")
_FUNCTION_WORDS = frozenset(
    "the a an and but or nor for so yet if in on at by to of from with as it its he she they we you i his her "  # noqa: SIM905
    "their our this that these those there here then when where while who what which how no not one all some both "
    "each".split()
)
_JOINERS = re.compile(r" (?:and|in) ")


@dataclass(frozen=True, slots=True)
class Value:
    """`text` at `start:end` of its sentence. Two values of one kind are equal where their keys are; `unit` belongs to
    quantities and is part of the key."""

    start: int
    end: int
    text: str
    kind: Kind
    key: str
    unit: str = ""


def find_values(sentence: str, names: Container[str] | None = None) -> list[Value]:
    """All values, left to right; a year inside a date is found as both.

    `names` are the words that the corpus writes with a capital inside sentences (see `name_words`), so that a
    sentence's first word is no name merely by its place; without it every capital counts.
    """
    figures = _figures(sentence)
    taken = [(value.start, value.end) for value in figures]
    undated = _without(sentence, [(value.start, value.end) for value in figures if value.kind != "quantity"])
    called = [value for value in _names(undated, names) if not _overlaps(value, taken)]
    return sorted((*figures, *called), key=lambda value: value.start)


@remembered(1024)  # a sentence is looked at with and without names
def _figures(sentence: str) -> tuple[Value, ...]:
    """Dates, then years, then quantities that are neither."""
    dates = [_plain(match, "date") for match in _DATE.finditer(sentence)]
    years = [_plain(match, "year") for match in _YEAR.finditer(sentence) if not _is_counted(sentence, match)]
    taken = [(value.start, value.end) for value in (*dates, *years)]
    return *dates, *years, *(value for value in _quantities(sentence) if not _overlaps(value, taken))


def same(a: Value, b: Value) -> bool:
    """Whether two values say the same. A surname, or a name with its title, matches the full name, and a country its
    people; a count matches whatever it counts, for "63 parks" may also be "63 of them"; measures need equal units."""
    if a.kind != b.kind:
        return False
    if a.key == b.key:
        return True
    if a.kind == "name":
        return _same_name(a.key, b.key)
    if a.kind != "quantity" or a.key.partition(" ")[0] != b.key.partition(" ")[0]:
        return False
    return not (_is_measure(a.unit) and _is_measure(b.unit))


@remembered(1 << 16)
def _is_measure(unit: str) -> bool:
    return bool(_MEASURE.search(unit))


def _same_name(a: str, b: str) -> bool:
    (first, ours), (second, theirs) = _words(a), _words(b)
    if ours <= theirs or theirs <= ours:
        return True
    return len(first) == len(second) and all(x == y or _related(x, y) for x, y in zip(first, second, strict=True))


@remembered(1 << 14)
def _words(name: str) -> tuple[list[str], frozenset[str]]:
    words = name.split()
    return words, frozenset(words)


def _related(a: str, b: str) -> bool:
    """Single words with one beginning, such as Britain and British."""
    half = max(4, (max(len(a), len(b)) + 1) // 2)
    return len(a) >= half <= len(b) and a[:half] == b[:half]


def comparable(a: Value, b: Value) -> bool:
    """Whether `b` could stand in `a`'s place: the same kind; measures in the same unit, or of the same number; counts
    of anything for counts, since "63 parks" may also be written "63 of them"."""
    if a.kind != "quantity" or b.kind != "quantity":
        return a.kind == b.kind
    if a.unit == b.unit or a.key.partition(" ")[0] == b.key.partition(" ")[0]:
        return True
    return not _is_measure(a.unit) and not _is_measure(b.unit)


def _plain(match: re.Match[str], kind: Kind) -> Value:
    return Value(match.start(), match.end(), match.group(), kind, match.group().lower().replace(",", ""))


def _is_counted(sentence: str, match: re.Match[str]) -> bool:
    """A four-digit number before a unit, as in "1500 metres", is no year."""
    unit = _UNIT.match(sentence, match.end())
    return bool(unit and _COUNTED.search(unit.group()))


def _quantities(sentence: str) -> Iterator[Value]:
    for match in _NUMBER.finditer(sentence):
        unit = _UNIT.match(sentence, match.end())
        end = unit.end() if unit else match.end()
        words = re.sub(r"[ -]+", " ", sentence[match.end() : end]).strip().removesuffix("s")
        number = match.group().replace(",", "").lower()
        number = number if number[0].isdigit() else str(spelled(number))
        yield Value(match.start(), end, sentence[match.start() : end], "quantity", f"{number} {words}".strip(), words)


def spelled(words: str) -> int:
    """What a number says that is written in words: "two hundred and three"."""
    above, hundred, below = words.lower().replace("-", " ").rpartition("hundred")
    ones = {"one": 1} | NUMBER_WORDS
    plain = [sum(ones.get(word, 0) for word in part.split()) for part in (above, below)]
    return 100 * (plain[0] or 1) + plain[1] if hundred else plain[1]


def _names(sentence: str, names: Container[str] | None) -> Iterator[Value]:
    for match in _NAME.finditer(sentence):
        start, text = match.start(), match.group()
        first = re.match(r"[\w'’-]+", text)
        if start == 0 and first and names is not None and first.group() not in names:
            rest = _NAME.search(text, first.end())
            if not rest:
                continue
            start, text = rest.start(), rest.group()
        for part in _JOINERS.split(text):
            at = sentence.index(part, start)
            part = part.removesuffix("'s").removesuffix("’s")
            key = part.lower().removeprefix("the ")
            if len(key) > 1 and key not in _FUNCTION_WORDS:
                yield Value(at, at + len(part), part, "name", key)


def _without(sentence: str, spans: list[tuple[int, int]]) -> str:
    """The sentence with line breaks in the place of some spans, which end a name and leave all places as they were."""
    for start, end in spans:
        sentence = sentence[:start] + "\n" * (end - start) + sentence[end:]
    return sentence


def _overlaps(value: Value, spans: list[tuple[int, int]]) -> bool:
    return any(value.start < end and start < value.end for start, end in spans)
