"""A slot: one fact, and who stated which value of it when."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from troth.curate.validate.slots.readings import Reading, agree, finer
from troth.curate.validate.slots.relations import day
from troth.curate.validate.slots.statements import Relation, Statement

_MOST_STATES, _MOST_STATEMENTS = 24, 256


@dataclass(frozen=True)
class Slot:
    """One fact: its statements by date, the different values that they give, which statement gives which [T, K], and
    which repeats an earlier one."""

    relation: int
    statements: tuple[Statement, ...]
    days: np.ndarray
    values: tuple[Reading, ...]
    agrees_TK: np.ndarray
    seen_T: np.ndarray


def build_slots(statements: Sequence[Statement], relations: dict[Relation, int]) -> list[Slot]:
    """Group statements by relation, subject and year."""
    groups: dict[tuple[int, str, str], list[Statement]] = defaultdict(list)
    for statement in statements:
        groups[relations[statement.relation], statement.subject, statement.year].append(statement)
    return [make_slot(key[0], groups[key]) for key in sorted(groups)]


def make_slot(relation: int, told: Sequence[Statement]) -> Slot:
    """A slot of the statements given; undated ones stand in the middle of the others."""
    dated = [when for one in told if (when := day(one.published)) is not None]
    middle = sorted(dated)[len(dated) // 2] if dated else 0
    times = [middle if (when := day(one.published)) is None else when for one in told]
    order = sorted(range(len(told)), key=lambda i: (times[i], told[i].source, told[i].start))[:_MOST_STATEMENTS]
    ordered = [told[i] for i in order]
    values = different([one.reading for one in ordered])
    table = {one.reading: [agree(one.reading, value) for value in values] for one in ordered}
    agrees = np.array([table[one.reading] for one in ordered], bool)
    days = [times[i] for i in order]
    seen = _repeats([one.reading for one in ordered], days)
    return Slot(relation, tuple(ordered), np.array(days, float), tuple(values), agrees, seen)


def _repeats(readings: Sequence[Reading], days: Sequence[int]) -> np.ndarray:
    """Which readings were stated on an earlier day, at least as closely: who says the same on the same day repeats
    nobody."""
    first: dict[Reading, int] = {}
    for reading, when in zip(readings, days, strict=True):
        first.setdefault(reading, when)
    closest = {
        reading: min(when for other, when in first.items() if agree(reading, other) and not finer(reading, other))
        for reading in first
    }
    return np.array([closest[reading] < when for reading, when in zip(readings, days, strict=True)], bool)


def different(readings: Sequence[Reading]) -> list[Reading]:
    """The different values among readings; of those that agree the one that says most."""
    counts: dict[Reading, int] = defaultdict(int)
    for reading in readings:
        counts[reading] += 1
    values: list[Reading] = []
    for reading in sorted(counts, key=lambda r: (r.number if r.numeric else -len(r.words), r.words)):
        covering = [i for i, value in enumerate(values) if agree(reading, value)]
        if not covering:
            values.append(reading)
        elif all(finer(reading, values[i]) for i in covering):
            values[covering[0]] = reading
            for i in reversed(covering[1:]):
                del values[i]
    for value in list(values):
        covered = [reading for reading in counts if reading != value and agree(reading, value)]
        values += [one for one in covered if one not in values and not all(agree(one, other) for other in covered)]
    values += [reading for reading in counts if not any(agree(reading, value) for value in values)]
    return sorted(values, key=lambda value: -counts[value])[:_MOST_STATES]
