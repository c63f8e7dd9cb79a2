"""Who is slow and who holds up the others, from a table of where all ranks stand: pure functions."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Verdict:
    """What was found (`straggler` or `hang`), the ranks it names, if any, and why."""

    kind: str
    ranks: tuple[int, ...]
    why: str


def judge_pace(table: np.ndarray, slow: float) -> list[Verdict]:
    """Ranks whose own work takes more than `slow` times the median of all, the slowest first.

    `table` holds RECORDs (see `board`); ranks whose time is unknown are left out. Of an even number the lower median
    counts, so that of two ranks one can be slow.
    """
    known = table[~np.isnan(table["own"])]
    if not len(known):
        return []
    median = np.percentile(known["own"], 50, method="lower")
    late = known[known["own"] > slow * median]
    late = late[np.argsort(-late["own"], kind="stable")]
    why = f"s of own work a step, of which the median rank has {median:.3g} s"
    return [Verdict("straggler", (int(record["rank"]),), f"{record['own']:.3g} {why}") for record in late]


def judge_hang(table: np.ndarray, ranks: int, silence: float) -> Verdict:
    """Which of the `ranks` the others wait for, in a table of ages of a run that does not move.

    First those that gave no sign of life for `silence` seconds, or never did: they are stopped or killed, or their
    machine is gone. Else those that are not where most are. Else none: all wait in one phase, and stacks must tell.
    """
    where = _where(table)
    missing = np.setdiff1d(np.arange(ranks), table["rank"]).tolist()
    silent = table[table["alive"] > silence]
    if len(silent):
        age = silent["alive"].min()
        gone = tuple(sorted(missing + _ranks(silent)))
        return Verdict("hang", gone, f"no sign of life for {age:.1f} s or more; {where}")
    if missing:
        return Verdict("hang", tuple(missing), f"no sign of life since the start; {where}")
    places, inverse, counts = np.unique(table[["step", "place"]], return_inverse=True, return_counts=True)
    if len(places) > 1:
        odd = table[inverse != counts.argmax()]
        return Verdict("hang", tuple(_ranks(odd)), f"not where most ranks are; {where}")
    return Verdict("hang", (), f"all ranks wait in one phase; {where}")


def _ranks(table: np.ndarray) -> list[int]:
    return sorted(table["rank"].tolist())


def _where(table: np.ndarray) -> str:
    """Which ranks have reached which phase of which step, the furthest first."""
    parts = []
    places, inverse = np.unique(table[["step", "place", "phase"]], return_inverse=True)
    for number in range(len(places))[::-1][:8]:
        step, _, phase = places[number].item()
        here = name_ranks(_ranks(table[inverse == number]))
        parts.append(f"{here} in {phase.decode(errors='replace')} of step {step}")
    return ", ".join(parts) + (f" and {len(places) - 8} more places" if len(places) > 8 else "")


def name_ranks(ranks: Iterable[int], most: int = 16) -> str:
    """`rank 3` or `ranks 0-2, 5`, at most `most` stretches of them."""
    stretches: list[list[int]] = []
    for rank in ranks:
        if stretches and rank == stretches[-1][-1] + 1:
            stretches[-1] = [stretches[-1][0], rank]
        else:
            stretches.append([rank])
    names = ["-".join(map(str, stretch)) for stretch in stretches]
    several = "s" if len(names) != 1 or "-" in names[0] else ""
    more = f" and {len(names) - most} more stretches" if len(names) > most else ""
    return f"rank{several} {', '.join(names[:most])}{more}"
