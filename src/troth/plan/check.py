"""How well the time model meets published runs: with its constants as they are, and with constants fitted without the
source that is predicted. Beside it stand the naive rule (a constant share of peak for each GPU, precision and kind of
network) and what runs differ in that agree in everything that a table says."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from troth.plan.calibration import Calibration
from troth.plan.fit import fit
from troth.plan.memory import least_recompute, memory_bytes
from troth.plan.published import Published
from troth.plan.run import Array, Run, columns
from troth.plan.step import step_time


@dataclass(frozen=True)
class Errors:
    """Of predictions against measurements, as shares; bias above 0 means that predicted steps are too long."""

    count: int
    median: float
    within_20: float
    within_30: float
    bias: float

    @classmethod
    def of(cls, predicted: Array, measured: Array) -> "Errors":
        """Of at least one prediction."""
        off = np.abs(predicted / measured - 1)
        bias = float(np.exp(np.median(np.log(predicted / measured))) - 1)
        return cls(len(off), float(np.median(off)), float(np.mean(off <= 0.2)), float(np.mean(off <= 0.3)), bias)

    def cells(self) -> list[str]:
        """As they are read, in the order of the fields."""
        shares = (f"{share:.1%}" for share in (self.median, self.within_20, self.within_30))
        return [str(self.count), *shares, f"{self.bias:+.1%}"]


@dataclass(frozen=True)
class Judged:
    """A published run with the recomputation that it needs to fit, seconds a step as predicted, and as predicted by
    constants that its source had no part in (None where these were not fitted)."""

    published: Published
    run: Run
    predicted: float
    left_out: float | None
    naive: float
    memory: float


KINDS: dict[str, Callable[[Judged], float | None]] = {
    "as calibrated": lambda one: one.predicted,
    "source left out": lambda one: one.left_out,
    "naive rule": lambda one: one.naive,
}
"""Predictions of a run in seconds, by their names."""

GROUPS: dict[str, Callable[[Judged], Hashable]] = {
    "kind": lambda one: "mixture of experts" if one.run.dimensions.experts else "dense",
    "GPU": lambda one: one.run.gpu.name,
    "precision": lambda one: one.run.precision,
    "GPUs": lambda one: _decade(one.run.world),
    "software of": lambda one: int(one.run.date),
    "source": lambda one: one.published.source[:70],
}
"""What errors are told by."""


def _decade(world: int) -> str:
    for low, high in ((1, 8), (9, 64), (65, 512), (513, 4096), (4097, 16384)):
        if world <= high:
            return f"{low:>5,} to {high:,}"
    return "more"


def judge(rows: Sequence[Published], calibration: Calibration, cross_validate: bool = True,
          progress: Callable[[int, int], None] = lambda done, of: None) -> list[Judged]:  # fmt: skip
    """All rows that can be predicted, predicted. progress: told how many sources of how many were left out so far.

    Raises ValueError where no row can be.
    """
    rows = [row for row in rows if row.run is not None]
    if not rows:
        raise ValueError("no row says enough to be predicted")
    runs = _filled(rows)
    every = columns(runs)
    predicted = step_time(every, calibration).seconds
    naive = _naive(runs, np.array([row.seconds for row in rows]))
    left_out = _left_out(rows, runs, progress) if cross_validate else [None] * len(rows)
    memory = memory_bytes(every)
    return [
        Judged(row, run, float(p), o, float(n), float(m))
        for row, run, p, o, n, m in zip(rows, runs, predicted, left_out, naive, memory, strict=True)
    ]


def fitted(rows: Sequence[Published]) -> Calibration:
    """Constants fitted to all rows that can be predicted."""
    rows = [row for row in rows if row.run is not None]
    return fit(columns(_filled(rows)), np.array([row.seconds for row in rows]))


def errors_by(judged: Sequence[Judged], key: Callable[[Judged], Hashable],
              prediction: Callable[[Judged], float | None] = lambda one: one.predicted,
              ) -> dict[Hashable, Errors]:  # fmt: skip
    """Errors of each group of rows, in the order of the groups' names."""
    groups: dict[Hashable, list[tuple[float, float]]] = defaultdict(list)
    for one in judged:
        if (seconds := prediction(one)) is not None:
            groups[key(one)].append((seconds, one.published.seconds))
    return {name: Errors.of(*np.array(groups[name]).T) for name in sorted(groups, key=str)}


def errors(judged: Sequence[Judged], prediction: Callable[[Judged], float | None]) -> Errors | None:
    """Errors of all rows; None where nothing was predicted."""
    return errors_by(judged, lambda one: "all", prediction).get("all")


def same_but_measured_apart(judged: Sequence[Judged]) -> Errors | None:
    """Errors of the best constant for every group of runs that agree in all but their software's date: no model that
    sees the same columns can do better on them. None where no two runs agree."""
    groups: dict[Run, list[float]] = defaultdict(list)
    for one in judged:
        groups[replace(one.run, date=0)].append(one.published.seconds)
    several = [np.array(group) for group in groups.values() if len(group) > 1]
    if not several:
        return None
    return Errors.of(np.concatenate([np.full(len(g), np.median(g)) for g in several]), np.concatenate(several))


def _filled(rows: Sequence[Published]) -> list[Run]:
    """The runs, with as little recomputation as fits where a row does not say how much."""
    runs = [row.run for row in rows if row.run is not None]
    shares = least_recompute(columns(runs))
    return [
        run if row.recompute_said else replace(run, recompute=float(share))
        for row, run, share in zip(rows, runs, shares, strict=True)
    ]


def _left_out(rows: Sequence[Published], runs: Sequence[Run], progress: Callable[[int, int], None]) -> list[float]:
    sources = [row.source for row in rows]
    measured = np.array([row.seconds for row in rows])
    every, predicted = columns(runs), np.zeros(len(rows))
    names = sorted(set(sources))
    for done, name in enumerate(names):
        out = np.array([source == name for source in sources])
        if out.all():
            raise ValueError("all rows are from one source: there is nothing to fit the constants to without it")
        predicted[out] = step_time(every.at(out), fit(every.at(~out), measured[~out])).seconds
        progress(done + 1, len(names))
    return [float(seconds) for seconds in predicted]


def _naive(runs: Sequence[Run], measured: Array) -> Array:
    """Seconds by the naive rule, whose shares of peak are the medians of these very rows."""
    work, kinds = [], []
    for run in runs:
        d = run.dimensions
        peak = run.gpu.peaks.get(run.precision, run.gpu.peak("bf16"))
        work.append(6 * d.multiplications(d.seen(run.length)) * run.sequences * run.length / (run.world * peak))
        kinds.append((run.gpu.name, run.precision, d.experts > 0))
    ideal, groups = np.array(work), [kinds.index(kind) for kind in kinds]
    shares = {group: np.median([i / s for i, s, g in zip(ideal, measured, groups, strict=True) if g == group])
              for group in set(groups)}  # fmt: skip
    return ideal / np.array([shares[group] for group in groups])
