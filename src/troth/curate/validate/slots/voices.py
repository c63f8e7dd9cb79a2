"""Whose voice a publisher has: those that copy each other have one.

Who says mostly the same in the same words may copy, or fill in the same form. Mistakes tell the two apart: a copy has
those of its original, and whoever looks for himself makes his own (Dong et al. 2009, "Integrating conflicting data: the
role of source dependence").
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence
from itertools import combinations

import numpy as np

from troth.curate.validate.slots.slot import Slot

_FEW, _SAME = 5, 0.6
"""Statements in common that are too few to tell, and the share from which publishers are alike."""
_ENOUGH, _COPIED = 5, 0.25
"""Mistakes that are enough to tell, and the share of them in common from which they are copied."""
_AT_ONE_TIME = 400.0
Pair = tuple[str, str]


def voices(slots: Sequence[Slot], mirrors: Container[str] = ()) -> dict[str, str]:
    """The voice of each publisher, named after the first of those that share it.

    Publishers that are alike share one, unless they have mistakes enough to tell and make them each alone. `mirrors`
    are publishers known to publish only what others did before; for them few statements are enough to be alike.
    """
    told: dict[str, set[int]] = defaultdict(set)
    for slot in slots:
        for one in slot.statements:
            told[one.publisher].add(hash((one.relation[1:], one.subject, one.year, one.text)))
    alike = [
        (a, b) for a, b in combinations(sorted(told), 2)
        if len(told[a] & told[b]) >= max(
            1 if a in mirrors or b in mirrors else _FEW, _SAME * min(len(told[a]), len(told[b]))
        )
    ]  # fmt: skip
    apart = _independent(slots, alike) if alike else set()
    voice = {publisher: publisher for publisher in told}
    for a, b in alike:
        if (a, b) not in apart:
            old, new = voice[b], voice[a]
            voice = {publisher: new if one == old else one for publisher, one in voice.items()}
    return voice


def _independent(slots: Sequence[Slot], alike: Sequence[Pair]) -> set[Pair]:
    """The pairs that make their mistakes each alone."""
    shared: Counter[Pair] = Counter()
    alone: Counter[Pair] = Counter()
    for slot in slots:
        for fellows, others in _mistakes(slot):
            shared.update(combinations(sorted(fellows), 2))
            alone.update((one, other) for one in fellows for other in others)
    return {
        (a, b) for a, b in alike
        if shared[a, b] + alone[a, b] + alone[b, a] >= _ENOUGH
        and shared[a, b] <= _COPIED * (shared[a, b] + min(alone[a, b], alone[b, a]))
    }  # fmt: skip


def _mistakes(slot: Slot) -> Iterator[tuple[set[str], set[str]]]:
    """Values against which a majority speaks at the same time that never has them: who states such a value, and who
    speaks against it."""
    who = [one.publisher for one in slot.statements]
    if len(slot.values) < 2 or len(set(who)) < 3:
        return
    speakers = [{who[t] for t in np.flatnonzero(slot.agrees_TK[:, k])} for k in range(len(slot.values))]
    for k, fellows in enumerate(speakers):
        days = slot.days[slot.agrees_TK[:, k]]
        for other, those in enumerate(speakers):
            if len(those - fellows) <= max(1, len(fellows)):
                continue
            told = np.flatnonzero(slot.agrees_TK[:, other])
            near = {who[t] for t in told if np.abs(days - slot.days[t]).min() <= _AT_ONE_TIME} - fellows
            if len(near) > max(1, len(fellows)):
                yield fellows, near
                break
