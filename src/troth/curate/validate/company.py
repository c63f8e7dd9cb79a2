"""The company that names keep: which words stand right before and after them (Firth 1957).

Names of one kind keep like company: "in", "from" and "of" stand before countries, "by" before people. Whether a name
fits between two words is read off where it stands elsewhere, so that no list of kinds is needed.
"""

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from troth.curate.buckets import BUCKET_BYTES, Buckets, in_order
from troth.curate.validate.mapped import Maps
from troth.curate.validate.phrases import BUCKETS, hash63, words_beside
from troth.curate.validate.values import Value

_REACH = 32
_TOGETHER = 1 << 18
_COUNTED = np.dtype([("mark", "<i8"), ("count", "<i8")])
_ANY = 0
"""Stands for a name, whichever it is."""
_PRIOR, _MOST = 3.0, 2.0
"""A name's own company counts as much as the company of all names once it was met this often; no side says more than
this, in nats."""


def _sides(text: str, value: Value) -> tuple[str, str]:
    """The words right beside a value, marked with their side."""
    before, after = words_beside(text, value, _REACH)
    return f"<{before[-1] if before else ''}", f">{after[0] if after else ''}"


def _mark(*parts: str) -> int:
    return hash63("\0".join(parts))


class CompanyWriter:
    """Counts the words beside names."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._buckets = Buckets(folder / "met", _COUNTED, BUCKETS * BUCKET_BYTES)
        self._met = array("q")

    def add(self, text: str, values: Iterable[Value]) -> None:
        """The names among the values of a sentence."""
        for value in values:
            if value.kind == "name":
                left, right = _sides(text, value)
                told = (value.key,), (left,), (right,), (value.key, left), (value.key, right)
                self._met.extend((_ANY, *(_mark(*parts) for parts in told)))
        if len(self._met) > _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        marks, counts = np.unique(np.array(self._met, np.int64), return_counts=True)
        del self._met[:]
        met = np.empty(len(marks), _COUNTED)
        met["mark"], met["count"] = marks, counts
        self._buckets.add(met, in_order(marks, self._buckets.count))

    def close(self) -> None:
        """Write how often each was met, a file each for the marks in their order and the counts."""
        self._flush()
        with (self._folder / "mark.bin").open("wb") as marks, (self._folder / "count.bin").open("wb") as counts:
            for met in self._buckets.read():
                met = met[np.argsort(met["mark"], kind="stable")]
                starts = np.flatnonzero(np.diff(met["mark"], prepend=-1))
                met["mark"][starts].tofile(marks)
                np.add.reduceat(met["count"], starts).tofile(counts)


class Company:
    """What `CompanyWriter` wrote."""

    def __init__(self, folder: Path, maps: Maps):
        self._marks, self._counts = (maps.array(folder / f"{name}.bin", np.int64) for name in ("mark", "count"))

    def fits(self, text: str, value: Value, others: Sequence[Value], own: str) -> np.ndarray:
        """How much likelier the words beside a name of a text are next to each of some others than next to any name, in
        nats [others]; `own` is the key of the name that the corpus has in this very place, which does not count."""
        sides = _sides(text, value)
        asked = [_mark(*parts) for one in others for parts in ((one.key,), *((one.key, side) for side in sides))]
        met_N3 = self._met(asked).reshape(-1, 3)
        here = np.array([one.key == own for one in others])
        met_N3[here] = np.maximum(met_N3[here] - 1, 0)
        all_names, *met_2 = self._met([_ANY, *map(_mark, sides)]).tolist()
        usual_2 = np.maximum(met_2, 1) / max(1, all_names)
        found_N2 = (met_N3[:, 1:] + _PRIOR * usual_2) / ((met_N3[:, :1] + _PRIOR) * usual_2)
        fits_N: np.ndarray = np.clip(np.log(found_N2), -_MOST, _MOST).sum(axis=1)
        return fits_N

    def _met(self, asked: list[int]) -> np.ndarray:
        """How often each mark was met."""
        if not len(self._marks):
            return np.zeros(len(asked), int)
        marks = np.array(asked, np.int64)
        at = np.minimum(np.searchsorted(self._marks, marks), len(self._marks) - 1)
        return np.where(self._marks[at] == marks, self._counts[at], 0)
