"""Equations as prose writes them, read into intervals: "12 + 7", "15% of 200", "two thirds of 90 students"."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from troth.curate.validate.verifiers.expressions import Interval, Unknown, evaluate
from troth.curate.validate.verifiers.numbers import PATTERN, Number, parse

_SIGNS = {
    "+": "+", "-": "-", "−": "-", "–": "-", "*": "*", "×": "*", "x": "*", "·": "*", "/": "/", "÷": "/", "^": "^",
    "**": "^", "plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/", "(": "(", ")": ")",
}  # fmt: skip
_SHARES = {
    "half": Fraction(1, 2), "third": Fraction(1, 3), "quarter": Fraction(1, 4), "fourth": Fraction(1, 4),
    "fifth": Fraction(1, 5), "sixth": Fraction(1, 6), "seventh": Fraction(1, 7), "eighth": Fraction(1, 8),
    "ninth": Fraction(1, 9), "tenth": Fraction(1, 10), "twentieth": Fraction(1, 20), "hundredth": Fraction(1, 100),
    "twice": Fraction(2), "double": Fraction(2), "triple": Fraction(3), "thrice": Fraction(3),
}  # fmt: skip
SHARE_WORDS = rf"(?:{'|'.join(_SHARES)})s?"
_WHOSE = "(?:(?:the|these|those|all|its|her|his|their)[ ])?(?=[$£€]?[0-9])"
_TOKEN = re.compile(
    rf"""(?P<mark><<|>>)
    |(?P<share>(?i:\b(?:(?:one|two|three|four|five|seven|an?)[ -])?{SHARE_WORDS}[ ](?:of[ ])?){_WHOSE})
    |(?P<equals>===?|=|≈|\bis\ equal\ to\b|\bequals\b|\bmakes\b|\bgives\b|\bis\b|\bare\b)
    |(?P<sign>\*\*|[-+−–*×·/÷^()]|\bx\b(?=\ ?[$£€]?\d)|\bplus\b|\bminus\b|\btimes\b|\bmultiplied\ by\b
        |\bdivided\ by\b)
    |(?P<number>[$£€]?(?i:{PATTERN.replace(" ", "[ ]")}))
        (?P<percent>[ ]?%|[ ]per[ ]?cent\b)?(?P<of>[ ]of[ ]{_WHOSE})?
    |(?P<word>[^\W\d_]+)
    |(?P<space>\s+)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_UNIT_WORDS = 2


@dataclass(frozen=True)
class Token:
    """A piece of a sentence: a number, a share (of the number that follows), sign, equals, mark, word, or other."""

    kind: str
    text: str
    start: int
    end: int
    number: Number | None = None
    percent: bool = False
    of: bool = False
    share: Fraction = Fraction(1)


@dataclass(frozen=True)
class Side:
    """One side of an equation at `start:end`: its value, the words that follow its numbers, its signs, whether money
    is meant; `number` where it is one bare number."""

    value: Interval
    start: int
    end: int
    units: tuple[str, ...]
    signs: frozenset[str]
    currency: bool
    number: Number | None
    percent: bool


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a sentence, spaces left out."""
    for match in _TOKEN.finditer(text):
        kind, (start, end) = str(match.lastgroup), match.span()
        if kind == "space":
            continue
        if match["number"]:
            shift = match["number"][0] in "$£€"
            number = parse(match["number"][shift:], start + shift)
            kind = "other" if number is None else "number"
            yield Token(kind, match["number"], start, end, number, bool(match["percent"]), bool(match["of"]))
        elif kind == "share":
            yield Token(kind, match.group(), start, end, share=_share(match.group().lower()))
        else:
            yield Token(kind, match.group(), start, end)


def _share(text: str) -> Fraction:
    words = re.split(r"[ -]", text.strip())
    named = next(i for i, word in enumerate(words) if word in _SHARES or word.removesuffix("s") in _SHARES)
    times = parse(words[0]) if named and words[0] not in ("a", "an") else None
    share = _SHARES.get(words[named]) or _SHARES[words[named].removesuffix("s")]
    return share * times.value if times else share


def read_side(found: list[Token], at: int, first: bool) -> tuple[Side | None, int] | None:
    """The longest expression that begins at a token, with the place after it; None where none begins there.

    The first side of an equation must hold a sign, the second may be a bare number.
    """
    parts: list[Interval | str] = []
    units: list[str] = []
    signs: set[str] = set()
    last: Token | None = None
    depth, operand, run, i = 0, False, 0, at
    while i < len(found):
        token = found[i]
        sign = _SIGNS.get(token.text, "")
        if token.kind == "share" and not operand:
            parts += [Interval(token.share, token.share, token.share), "*"]
            signs.add("share")
        elif token.number is not None and not operand:
            parts.append(_value(token))
            operand, last, run = True, token, 0
            if token.of:
                if not token.percent:
                    break
                parts.append("*")
                signs.add("share")
                operand = False
        elif token.kind == "sign" and _fits(sign, operand, depth, parts):
            depth += (sign == "(") - (sign == ")")
            if operand and sign != ")":
                operand = False
                signs.add(sign)
            parts.append(sign)
        elif token.kind == "word" and len(token.text) == 1:
            return None, i + 1  # A variable.
        elif token.kind == "word" and operand and run < _UNIT_WORDS and found[i - 1].text != ")":
            run += 1
            units.append(token.text.lower())
        else:
            break
        i += 1
    if not operand or depth or last is None or (first and not signs):
        return None if i == at else (None, i)
    try:
        value = evaluate(parts)
    except Unknown:
        return None, i
    lone = last.number if len(parts) == 1 else None
    money = any(token.text[0] in "$£€" for token in found[at:i])
    end = found[i - 1].end
    return Side(value, found[at].start, end, tuple(units), frozenset(signs), money, lone, last.percent), i


def _fits(sign: str, operand: bool, depth: int, parts: list[Interval | str]) -> bool:
    if sign == "(":
        return not operand
    if sign == ")":
        return operand and depth > 0
    return operand or (sign == "-" and parts[-1:] != ["-"])


def _value(token: Token) -> Interval:
    assert token.number is not None
    if not token.percent:
        return as_interval(token.number)
    spread = Fraction(1, 2) if token.of and not token.number.places else token.number.half
    low, value, high = ((token.number.value + x * spread) / 100 for x in (-1, 0, 1))
    return Interval(low, value, high)


def as_interval(number: Number) -> Interval:
    """A written decimal, which may have been rounded."""
    return Interval(number.value - number.half, number.value, number.value + number.half)
