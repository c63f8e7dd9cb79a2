"""Arithmetic in prose and in equations: "12 + 7 is 19", "a third of 90 is 30", "15% of 200 is 30", `<<48/2=24>>`.

An equation is read only where both of its sides are numbers and signs throughout; a letter next to it, a unit that
changes, or a power of ten whose exponent may have lost its raising, and nothing is said.
"""

import re
from collections.abc import Iterator
from fractions import Fraction

from troth.curate.validate.verifiers.equations import SHARE_WORDS, Side, as_interval, read_side, tokens
from troth.curate.validate.verifiers.exact import Checked, agree, differ, hedged
from troth.curate.validate.verifiers.expressions import Interval, evaluate
from troth.curate.validate.verifiers.numbers import PATTERN, Number, parse

_WORTH_READING = re.compile(
    rf"\d\s*(?:[-+−–*×·/÷^x]|\b(?:plus|minus|times|multiplied|divided)\b)|(?:%|per ?cent|{SHARE_WORDS})\ ?"
    r"(?:of\b|the\b|\$?\d)|[=≈]\s*[$£€(]?\d|<<|\b(?:plus|minus|times|multiplied|divided) (?:by )?\w"
)
_SUM = re.compile(
    rf"\b[Tt]he (?P<what>sum|product|difference|total) (?:of|between) (?P<a>{PATTERN}) and (?P<b>{PATTERN}) "
    rf"(?:is|equals|was) (?P<c>{PATTERN})(?![\w%]| (?:and|times|percent|per cent|more|less|of)\b)", re.IGNORECASE,
)  # fmt: skip
_GOES_ON = re.compile(
    r"\s*(?:\d|and \d|[-+−–*×·/÷^<>≤≥~±%°({\[]|[A-Za-z]\b(?!\.(?:\s|$))|=|\b(?:times|plus|minus|percent|per cent|more|"
    r"less|fewer|over|of|or|to|mod|remainder|dozen|hundred|thousand|million|billion|and a|squared|cubed|\w+ths?)\b|"
    r"[.,:]\d|…|\.\.\.)"
)
_BEFORE = re.compile(
    r"(?:[\w}\])°′″.:\\]|[-+−–*×·/÷^=~±<>√∑∫%]\s*|\)\s+|\b[A-Za-z]\s+|\d\s+(?:and\s+)?|\b(?:of|by|per|plus|minus|times|over|root|log|ln|sin|"
    r"cos|tan|power|mod|about|approximately|from|to)\s+)$", re.IGNORECASE,
)  # fmt: skip
_CLAUSE = re.compile(
    r"(?:^|[.,:;!?\"'“‘(]|\b(?:that|because|so|since|knows?|as|then|therefore|thus|where|says?|and))\s*$", re.IGNORECASE
)
_POWER_OF_TEN = re.compile(r"[×x*·]\s?10\s?[-−–]?\s?\d|[×x*·]\s?10\^|\d[eE][-+]?\d")
_FRACTION = re.compile(r"[/÷]\s*[\d.]+\s*[/÷]|(?:[*×x·]|times)\s*[\d.]+\s*[/÷]|[/÷]\s*[\d.]+\s*(?:[*×x·]|times)")
_NEAR = re.compile(
    r"≈|~|\b(?:about|around|approx\w*|roughly|nearly|almost|some|over|more than|less than|rounded)\b|…|\.\.\."
)


def arithmetic(text: str) -> Iterator[Checked]:
    """What equations in a sentence come to. The result, at the right, is the value that is judged."""
    if not _WORTH_READING.search(text) and not _SUM.search(text):
        return
    if hedged(text):
        return
    loose = bool(_NEAR.search(text))
    yield from _sums(text, loose)
    found = list(tokens(text))
    marked = False
    at = 0
    while at < len(found):
        if found[at].kind == "mark":
            marked = found[at].text == "<<"
        left = read_side(found, at, first=True)
        if left is None:
            at += 1
            continue
        begins = marked or not _BEFORE.search(text[max(0, found[at].start - 16) : found[at].start].removesuffix("$"))
        side, after = left
        at = max(at + 1, after)
        if side is None or not begins or after >= len(found) or found[after].kind != "equals":
            continue
        result, _ = read_side(found, after + 1, first=False) or (None, 0)
        if result is not None:
            near = loose or found[after].text == "≈"
            yield from _compare(text, side, result, marked, near, word=found[after].text[0] not in "=≈")


def _sums(text: str, loose: bool) -> Iterator[Checked]:
    for match in _SUM.finditer(text):
        a, b, c = (parse(match[name], match.start(name)) for name in "abc")
        if a is None or b is None or c is None:
            continue
        what = match["what"].lower()
        first, second = as_interval(a), as_interval(b)
        sign = {"sum": "+", "total": "+", "product": "*", "difference": "-"}[what]
        value = evaluate([first, sign, second])
        if what == "difference" and value.value < 0:
            value = evaluate([second, sign, first])
        yield _finding(value, c, f"{match['a']} {sign} {match['b']}", loose)


def _compare(text: str, left: Side, right: Side, marked: bool, near: bool, word: bool) -> Iterator[Checked]:
    span = text[left.start : right.end]
    if _POWER_OF_TEN.search(span) or re.search(r"(?<![\d.,])0\d", span):
        return
    if word and not _CLAUSE.search(text[max(0, left.start - 16) : left.start].removesuffix("$")):
        return
    if word and ("-" in left.signs or "/" in left.signs) and not re.search(r"\s(?:[-−–/÷]|minus|divided by)\s", span):
        return
    end = right.number.end if right.number else right.end
    if not marked and _GOES_ON.match(text, right.end):
        return
    kinds = set(left.units) | set(right.units)
    same_units = left.units == () or right.units == () or set(left.units) == set(right.units)
    mixed = len(set(left.units)) > 2 or (right.units and left.currency > right.currency)
    # "25 / 1/3" may mean 25 / (1/3), and "5 x 1/2 = 10 halves" counts halves.
    unclear = bool(_FRACTION.search(text[left.start : left.end]))
    shown = re.sub(r"\s+", " ", text[left.start : left.end])
    if right.number is not None and right.percent is False:
        if kinds and (not same_units or mixed or (left.units and not right.units and "share" in left.signs)):
            unclear = True
        exact = _exactly(left.value.value) if marked else left.value
        found = _finding(exact, right.number, shown, near)
        if found.stance == "supported" or not (unclear or _other_scale(exact.value, right.number.value)):
            yield found
    elif right.number is None and right.value.low == right.value.high and left.value.low == left.value.high:
        if left.value.value == right.value.value:
            yield agree(right.start, end, f"{shown} = {text[right.start : right.end]}")
        elif not kinds and not near and not unclear:
            yield differ(right.start, end, str(left.value.value), f"{shown} is {left.value.value}")


def _finding(value: Interval, stated: Number, shown: str, near: bool) -> Checked:
    slack = stated.rounded if near or stated.places or stated.scale > 1 or value.value.denominator != 1 else Fraction(0)
    if value.value.denominator != 1 and not stated.places:
        slack = Fraction(99, 100)  # Of things that are counted, the rest is left out or made whole.
    if near:
        slack = max(slack, abs(value.value) / 20)
    result = stated.written(value.value)
    if value.low - slack <= stated.value <= value.high + slack:
        return agree(stated.start, stated.end, f"{shown} is {result}")
    # Cut off, not rounded: 2/3 = 0.66.
    if stated.places and abs(stated.value - value.value) < 2 * stated.rounded:
        return agree(stated.start, stated.end, f"{shown} is {result}")
    if result == stated.written(stated.value):
        result = str(float(value.value))
    return differ(stated.start, stated.end, result, f"{shown} is {result}")


def _other_scale(value: Fraction, stated: Fraction) -> bool:
    """Whether one is the other in hundredths, thousands or millions: in percent, cents, or with its scale left out."""
    return any(stated * times == value or value * times == stated for times in (100, 1000, 10**6))


def _exactly(value: Fraction) -> Interval:
    return Interval(value, value, value)
