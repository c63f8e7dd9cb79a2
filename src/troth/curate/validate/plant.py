"""Planted errors: a claim with another value of the same kind in its place, as careless sources write them."""

import re
from itertools import pairwise

import numpy as np

from troth.curate.validate.values import Value, comparable, same


def plant(value: Value, related: list[Value], pool: list[Value], random: np.random.Generator) -> Value | None:
    """A wrong value for `value`, or None where none was found.

    Half of the time it is one that related sentences state, which is the harder kind to catch; otherwise a number with
    its digits changed, or a name from anywhere in the corpus (`pool`).
    """
    related = [other for other in related if not same(other, value)]
    if related and random.random() < 0.5:
        return related[int(random.integers(len(related)))]
    if value.kind != "name":
        return _moved(value, random)
    for _ in range(10):
        other = pool[int(random.integers(len(pool)))]
        if comparable(value, other) and not same(value, other):
            return other
    return None


def _moved(value: Value, random: np.random.Generator) -> Value | None:
    """One digit raised or lowered, or two neighbours exchanged; number words are left alone."""
    digits = [match.start() for match in re.finditer(r"\d", value.text)]
    if not digits:
        return None
    text = list(value.text)
    pairs = [(a, b) for a, b in pairwise(digits) if text[a] != text[b] and text[b] != "0"]
    if pairs and random.random() < 0.5:
        a, b = pairs[int(random.integers(len(pairs)))]
        text[a], text[b] = text[b], text[a]
    else:
        at = digits[int(random.integers(len(digits)))]
        text[at] = str((int(text[at]) + int(random.integers(1, 9))) % 10)
    moved = "".join(text)
    key = value.key.replace(value.text.replace(",", "").split()[0], moved.replace(",", "").split()[0], 1)
    return Value(value.start, value.start + len(moved), moved, value.kind, key, value.unit)
