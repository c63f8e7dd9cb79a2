"""Which wordings of different publishers state the same relation: those that give the same subjects the same values.

Matching by instances, as for schemas (Doan et al. 2001), asks for no likeness of words. For every two wordings that
ever give one subject one value, the share of their common subjects on which they agree at about the same date is
counted; each other's best, agreeing for the most part, are taken for one relation.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date
from itertools import combinations

from troth.curate.memory import remembered
from troth.curate.validate.slots.readings import Reading, agree, keys
from troth.curate.validate.slots.statements import Relation, Statement

_CROWD, _SAMPLE, _NEAR_DAYS = 60, 80, 400
_FEWEST, _AGREED, _NEARLY_BEST, _CLASH = 3, 0.45, 0.85, 0.2
Key = tuple[str, str]


@remembered(1 << 16)
def day(published: str) -> int | None:
    """A date as a number of days, its missing parts taken from the middle; None where it is unknown."""
    parts = published.split("-")
    try:
        year, month, of_month = (*map(int, parts), *(0, 0))[:3]
        return date(year, month or 7, of_month or (15 if month else 1)).toordinal()
    except ValueError:
        return None


def link(statements: Sequence[Statement]) -> dict[Relation, int]:
    """The number of the relation that each wording's slot states."""
    told: dict[Relation, dict[Key, list[Statement]]] = defaultdict(lambda: defaultdict(list))
    for statement in statements:
        told[statement.relation][statement.subject, statement.year].append(statement)
    scores = {pair: score for pair in _candidates(statements) if (score := _agreement(*(told[one] for one in pair)))}
    best: dict[tuple[Relation, str], float] = defaultdict(float)
    for (a, b), score in scores.items():
        best[a, b[0]] = max(best[a, b[0]], score)
        best[b, a[0]] = max(best[b, a[0]], score)
    group = {relation: {relation} for relation in told}
    for (a, b), score in sorted(scores.items(), key=lambda item: (-item[1], item[0])):
        one_way = score >= best[a, b[0]], score >= best[b, a[0]]
        close = score >= _NEARLY_BEST * max(best[a, b[0]], best[b, a[0]])
        if not (all(one_way) or (any(one_way) and close)) or group[a] is group[b]:
            continue
        if any(_clash(told[x], told[y]) for x in group[a] for y in group[b] if x[0] == y[0]):
            continue
        group[a] |= group[b]
        for member in group[b]:
            group[member] = group[a]
    numbers: dict[int, int] = {}
    return {relation: numbers.setdefault(id(group[relation]), len(numbers)) for relation in told}


def _candidates(statements: Sequence[Statement]) -> list[tuple[Relation, Relation]]:
    """Pairs of different publishers' wordings that give enough subjects the same value."""
    about: dict[Key, list[Statement]] = defaultdict(list)
    for statement in statements:
        about[statement.subject, statement.year].append(statement)
    counts: Counter[tuple[Relation, Relation]] = Counter()
    for several in about.values():
        met: dict[str, set[Relation]] = defaultdict(set)
        for statement in several:
            for key in keys(statement.reading):
                met[key].add(statement.relation)
        for relations in met.values():
            if len(relations) <= _CROWD:
                counts.update((a, b) for a, b in combinations(sorted(relations), 2) if a[0] != b[0])
    return [pair for pair, n in counts.items() if n >= _FEWEST]


def _agreement(ours: dict[Key, list[Statement]], theirs: dict[Key, list[Statement]]) -> float:
    """The share of common subjects on which two wordings agree at about the same date; 0 where it is too small."""
    common = sorted(ours.keys() & theirs.keys())
    step = max(1, len(common) // _SAMPLE)
    seen = agreed = 0.0
    shared: set[tuple[Key, Reading]] = set()
    for key in common[::step]:
        times = [day(y.published) for y in theirs[key]]
        pairs = [
            (x, y, 0 if a is None or b is None else abs(a - b))
            for x in ours[key] for a in (day(x.published),) for y, b in zip(theirs[key], times, strict=True)
            if a is None or b is None or abs(a - b) < _NEAR_DAYS
        ]  # fmt: skip
        if pairs:
            nearest = _nearest(pairs)
            seen += 1
            alike = {(key, x.reading): agree(x.reading, y.reading) for x, y in nearest}
            agreed += sum(alike.values()) / len(alike)
            shared |= {one for one, same in alike.items() if same}
    return agreed / seen if len(shared) >= _FEWEST and agreed > _AGREED * seen else 0.0


def _nearest(pairs: list[tuple[Statement, Statement, int]]) -> list[tuple[Statement, Statement]]:
    """For each statement of ours, theirs nearest in time."""
    best: dict[int, tuple[Statement, Statement, int]] = {}
    for pair in pairs:
        if id(pair[0]) not in best or pair[2] < best[id(pair[0])][2]:
            best[id(pair[0])] = pair
    return [(x, y) for x, y, _ in best.values()]


def _clash(ours: dict[Key, list[Statement]], theirs: dict[Key, list[Statement]]) -> bool:
    """Whether one publisher's two wordings stand side by side with different values: then they are two relations."""
    both = clashes = 0
    for key in sorted(ours.keys() & theirs.keys())[:_SAMPLE]:
        mine = {x.published: x for x in ours[key]}
        for other in theirs[key]:
            if other.published in mine:
                both += 1
                clashes += not agree(mine[other.published].reading, other.reading)
    total = sum(map(len, ours.values()))
    return clashes > _CLASH * both and clashes > 0.02 * total
