"""The company that names keep: which words stand right before and after them (Firth 1957).

Names of one kind keep like company: "in", "from" and "of" stand before countries, "by" before people. Whether a name fits
between two words is read off where it stands elsewhere, so that no list of kinds is needed.
"""

import re
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xxhash

from troth.curate.validate.values import Value

_REACH = 32
_TOKEN = re.compile(r"\w+|[^\w\s]")
_PRIOR, _MOST = 3.0, 2.0
"""A name's own company counts as much as the company of all names once it was met this often; no side says more than
this, in nats."""


def _sides(text: str, value: Value) -> tuple[str, str]:
    """The words right beside a value, marked with their side."""
    before = _TOKEN.findall(text[max(0, value.start - _REACH) : value.start].lower())
    after = _TOKEN.findall(text[value.end : value.end + _REACH].lower())
    return f"<{before[-1] if before else ''}", f">{after[0] if after else ''}"


def _mark(*parts: str) -> int:
    return xxhash.xxh3_64_intdigest("\0".join(parts)) >> 1


class CompanyWriter:
    """Counts the words beside names."""

    def __init__(self) -> None:
        self._met = array("q")

    def add(self, text: str, values: Iterable[Value]) -> None:
        """The names among the values of a sentence."""
        for value in values:
            if value.kind == "name":
                sides = _sides(text, value)
                self._met.extend((0, _mark(value.key), *map(_mark, sides), *(_mark(value.key, one) for one in sides)))

    def write(self, path: Path) -> None:
        """Write how often each was met: marks and counts, int64 [2, M]."""
        np.save(path, np.stack(np.unique(np.array(self._met, np.int64), return_counts=True)))


class Company:
    """What `CompanyWriter` wrote."""

    def __init__(self, path: Path):
        self._marks, self._counts = np.load(path, mmap_mode="r").view(np.ndarray)

    def fits(self, text: str, value: Value, others: Sequence[Value], own: str) -> np.ndarray:
        """How much likelier the words beside a name of a text are next to each of some others than next to any name, in
        nats [others]; `own` is the key of the name that the corpus has in this very place, which does not count."""
        sides = _sides(text, value)
        keys = [other.key for other in others]
        met_N3 = self._met([(key,) if not side else (key, side) for key in keys for side in ("", *sides)]).reshape(-1, 3)
        met_N3[[key == own for key in keys]] -= 1
        whole, *side_2 = self._met([(side,) for side in sides], whole=True)
        usual_2 = np.maximum(np.array(side_2), 1) / max(1, whole)
        found_N2 = (met_N3[:, 1:] + _PRIOR * usual_2) / ((met_N3[:, :1] + _PRIOR) * usual_2)
        fits_N: np.ndarray = np.clip(np.log(found_N2), -_MOST, _MOST).sum(axis=1)
        return fits_N

    def _met(self, asked: list[tuple[str, ...]], whole: bool = False) -> np.ndarray:
        """How often each was met; with `whole`, first how many names there are at all."""
        marks = np.array([0] * whole + [_mark(*parts) for parts in asked], np.int64)
        at = np.minimum(np.searchsorted(self._marks, marks), len(self._marks) - 1)
        return np.where(self._marks[at] == marks, self._counts[at], 0) if len(self._marks) else np.zeros(len(marks), int)
