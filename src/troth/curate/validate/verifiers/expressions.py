"""Arithmetic as an interval: every written decimal may have been rounded, so an expression has a least and a greatest
value (interval arithmetic, Moore 1966). Exact fractions, so that nothing is lost on the way."""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

_POWER_LIMIT, _SIZE_LIMIT = 64, 10**40


class Interval(NamedTuple):
    """All values from `low` to `high`; `value` is what the written digits give."""

    low: Fraction
    value: Fraction
    high: Fraction


class Unknown(ValueError):
    """An expression that has no value, or whose value is not worth computing."""


def evaluate(tokens: list[Interval | str]) -> Interval:
    """The value of numbers joined by + - * / ^ and parentheses, with the usual precedence.

    Raises Unknown for a division by (what may be) zero, a great power, or a malformed expression.
    """
    value, rest = _sum(tokens, 0)
    if rest != len(tokens):
        raise Unknown("malformed")
    return value


def _sum(tokens: list[Interval | str], at: int) -> tuple[Interval, int]:
    left, at = _product(tokens, at)
    while at < len(tokens) and tokens[at] in ("+", "-"):
        right, after = _product(tokens, at + 1)
        left = _add(left, right) if tokens[at] == "+" else _add(left, _negative(right))
        at = after
    return left, at


def _product(tokens: list[Interval | str], at: int) -> tuple[Interval, int]:
    left, at = _power(tokens, at)
    while at < len(tokens) and tokens[at] in ("*", "/"):
        right, after = _power(tokens, at + 1)
        if tokens[at] == "/":
            if right.low <= 0 <= right.high:
                raise Unknown("division by zero")
            right = Interval(1 / right.high, 1 / right.value, 1 / right.low)
        left = _corners(left, right, lambda a, b: a * b)
        at = after
    return left, at


def _power(tokens: list[Interval | str], at: int) -> tuple[Interval, int]:
    base, at = _atom(tokens, at)
    if at < len(tokens) and tokens[at] == "^":
        power, at = _power(tokens, at + 1)
        if power.value.denominator != 1 or not 0 <= power.value <= _POWER_LIMIT or base.low < 0:
            raise Unknown("power")
        n = int(power.value)
        base = Interval(base.low**n, base.value**n, base.high**n)
        if base.high > _SIZE_LIMIT:
            raise Unknown("too great")
    return base, at


def _atom(tokens: list[Interval | str], at: int) -> tuple[Interval, int]:
    if at >= len(tokens):
        raise Unknown("malformed")
    token = tokens[at]
    if isinstance(token, Interval):
        return token, at + 1
    if token == "-":
        value, at = _power(tokens, at + 1)
        return _negative(value), at
    if token == "(":
        value, at = _sum(tokens, at + 1)
        if at < len(tokens) and tokens[at] == ")":
            return value, at + 1
    raise Unknown("malformed")


def _add(a: Interval, b: Interval) -> Interval:
    return Interval(a.low + b.low, a.value + b.value, a.high + b.high)


def _negative(a: Interval) -> Interval:
    return Interval(-a.high, -a.value, -a.low)


def _corners(a: Interval, b: Interval, apply: Callable[[Fraction, Fraction], Fraction]) -> Interval:
    ends = [apply(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return Interval(min(ends), apply(a.value, b.value), max(ends))
