"""What the timelines say of each statement: whether it was right at its date, whether it still is, and what is.

How sure the model is of itself is checked on errors that the run plants: statements of the corpus whose value another
subject has, or whose digits were moved, put into their slots and judged anew. The model's probabilities are scaled by
how these fare.
"""

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from troth.curate.document import Document
from troth.curate.records import Nature, Stance, Time
from troth.curate.validate.slots.readings import Reading, agree, read, within
from troth.curate.validate.slots.relations import link
from troth.curate.validate.slots.slot import Slot, build_slots, make_slot
from troth.curate.validate.slots.statements import Statement, all_statements
from troth.curate.validate.slots.survey import survey
from troth.curate.validate.slots.timeline import Beliefs, believe, reconsider

_PLANTED, _LEAST = 1000, 30
_RAREST, _DIGITS = 1e-3, 4
_AT_ONE_TIME = 400
_SETTLED = 0.05
"""What is right or wrong this surely is not contested, whoever says otherwise."""
_ROUND = 1000
"""Worth of one in the last figure from which on a number was rounded to be told, in thousands or millions."""


@dataclass(frozen=True)
class TimedVerdict:
    """The judgement of one statement.

    `p` is the probability that it was right at its date; `answer` the credible value then, as a witness writes it,
    where that is another, and `newer` says today's, where it is known and another. `valid_from` and `valid_to` are the
    dates of the first statement by which the value held and of the first by which it no longer did. `note` tells an old
    value under a new date (`stale`) and a value in whose place several publishers see another at the same time
    (`contested`). Witnesses are the statements of the slot by other publishers.
    """

    statement: Statement
    stance: Stance
    time: Time
    nature: Nature
    p: float
    answer: str
    newer: Statement | None
    valid_from: str
    valid_to: str
    note: str
    witnesses: tuple[Statement, ...]

    @property
    def now(self) -> str:
        """Today's value; empty where it is this one or unknown."""
        return self.newer.text if self.newer else ""


@dataclass(frozen=True)
class Learned:
    """What slots taught: beliefs in publishers and relations, a scale for probabilities, and how planted errors fared:
    their number, the shares found and mended, and the share of other statements with a second voice refuted."""

    beliefs: Beliefs
    scale: "Scale"
    planted: int
    recall: float
    mended: float
    refuted: float


def judge_documents(
    documents: Iterable[Document], seed: int, act_above: float = 0.5, mirrors: Container[str] = ()
) -> tuple[Learned, list[TimedVerdict]]:
    """Judge what documents state in wordings that come back. A statement is refuted where it is wrong with a
    probability above `act_above`. `mirrors` are publishers known to publish nothing but what others did before.

    `documents` are gone through several times.
    """
    statements = all_statements(documents, survey(documents))
    slots = build_slots(statements, link(statements))
    learned = learn(slots, seed, act_above, mirrors)
    return learned, list(judge_slots(slots, learned, act_above))


def learn(slots: Sequence[Slot], seed: int, act_above: float = 0.5, mirrors: Container[str] = ()) -> Learned:
    """Learn from slots whom to believe and how far; some thousands of slots are enough."""
    beliefs, truths = believe(slots, mirrors)
    planted = list(_planted(slots, beliefs, np.random.default_rng(seed)))
    anew = reconsider([slot for slot, _, _ in planted], beliefs)
    misstated = [(slot, truth, at) for (slot, at, _), truth in zip(planted, anew, strict=True)]
    as_found = [(slot, truth, at) for slot, truth in zip(slots, truths, strict=True) for at in _shared(slot, beliefs)]
    scale = calibrate(np.array([_right(*one) for one in as_found]), np.array([_right(*one) for one in misstated]))
    found = [_refuted(*one, scale, act_above) for one in misstated]
    mended = [
        agree(slot.values[int(np.argmax(truth[at]))], true)
        for (slot, at, true), truth, caught in zip(planted, anew, found, strict=True) if caught
    ]  # fmt: skip
    alarms = [_refuted(*one, scale, act_above) for one in as_found]
    return Learned(beliefs, scale, len(planted), _mean(found), _mean(mended), _mean(alarms))


def judge_slots(slots: Sequence[Slot], learned: Learned, act_above: float = 0.5) -> Iterator[TimedVerdict]:
    """Judge every statement of slots by what was learned before, from these or others of the same relations."""
    for slot, truth in zip(slots, reconsider(slots, learned.beliefs), strict=True):
        yield from _verdicts(slot, truth, learned.beliefs, learned.scale, act_above)


def _mean(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0


def _right(slot: Slot, truth_TK: np.ndarray, at: int) -> float:
    return float(truth_TK[at] @ slot.agrees_TK[at])


def _refuted(slot: Slot, truth_TK: np.ndarray, at: int, scale: "Scale", act_above: float) -> bool:
    """Whether another value is the likeliest, and this one wrong surely enough."""
    best = int(np.argmax(truth_TK[at]))
    other = not slot.agrees_TK[at, best] and not within(slot.statements[at].reading, slot.values[best])
    return other and scale(_right(slot, truth_TK, at)) < 1 - act_above


def _shared(slot: Slot, beliefs: Beliefs) -> list[int]:
    """The statements of a slot, if more than one voice speaks there."""
    voices = {beliefs.voices.get(one.publisher, one.publisher) for one in slot.statements}
    return list(range(len(slot.statements))) if len(voices) > 1 else []


def _planted(
    slots: Sequence[Slot], beliefs: Beliefs, random: np.random.Generator
) -> Iterator[tuple[Slot, int, Reading]]:
    """Slots with one statement misstated, which one it is, and what it said."""
    pools: dict[int, list[Statement]] = defaultdict(list)
    for slot in slots:
        pools[slot.relation] += slot.statements[:: max(1, len(slot.statements) // 4)]
    places = [(i, at) for i, slot in enumerate(slots) for at in _shared(slot, beliefs)]
    for place in random.permutation(len(places))[:_PLANTED]:
        i, at = places[int(place)]
        slot = slots[i]
        true = slot.statements[at].reading
        pool = pools[slot.relation]
        text = misstate(slot.statements[at].text, pool[int(random.integers(len(pool)))].text, random)
        wrong = read(text)
        if wrong == true or any(agree(wrong, value) for value in slot.values):
            continue
        told = list(slot.statements)
        told[at] = replace(told[at], text=text)
        changed = make_slot(slot.relation, told)
        yield changed, next(n for n, one in enumerate(changed.statements) if one is told[at]), true


def misstate(text: str, other: str, random: np.random.Generator) -> str:
    """A wrong value: another one's, or the same with a digit changed."""
    digits = [match.start() for match in re.finditer(r"\d", text)]
    if not digits or random.random() < 0.5:
        return other
    at = digits[int(random.integers(min(4, len(digits))))]
    return f"{text[:at]}{(int(text[at]) + int(random.integers(1, 9))) % 10}{text[at + 1 :]}"


@dataclass(frozen=True)
class Scale:
    """From the model's probability that a statement is right (`edges`, rising) to one that holds (`values`)."""

    edges: np.ndarray
    values: np.ndarray

    def __call__(self, p: float) -> float:
        return float(np.interp(p, self.edges, self.values)) if len(self.edges) else p


def calibrate(observed: np.ndarray, wrong: np.ndarray) -> Scale:
    """Fit a scale to the model's probabilities of statements as they stand and of planted errors.

    Statements as they stand are right and wrong ones mixed. Where planted errors are r times as frequent among their
    like as statements are among theirs, and a share s of the statements is wrong, s r of the statements there are
    wrong (Elkan & Noto 2008). r falls as p rises (isotonic regression); s is the model's own estimate.
    """
    if min(len(observed), len(wrong)) < _LEAST:
        return Scale(np.empty(0), np.empty(0))
    share = max(_RAREST, float(np.mean(1 - observed)))
    p = np.concatenate([observed, wrong])
    planted = np.repeat([0.0, 1.0], [len(observed), len(wrong)])
    weight = np.repeat([1 / len(observed), share / len(wrong)], [len(observed), len(wrong)])
    edges, groups = np.unique(np.round(p, _DIGITS), return_inverse=True)
    mass = np.bincount(groups, weights=weight)
    mixed = np.bincount(groups, weights=weight * planted) / mass
    fitted = _falling(mixed, mass)
    return Scale(edges, 1 - np.minimum(1.0, fitted / np.maximum(_RAREST, 1 - fitted)))


def _falling(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The falling sequence nearest to values, by pooling neighbours that rise."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        block = (float(value), float(weight), 1)
        while blocks and blocks[-1][0] < block[0]:
            level, mass, size = blocks.pop()
            total = mass + block[1]
            block = ((level * mass + block[0] * block[1]) / total, total, size + block[2])
        blocks.append(block)
    return np.repeat([level for level, _, _ in blocks], [size for _, _, size in blocks])


def _verdicts(
    slot: Slot, truth_TK: np.ndarray, beliefs: Beliefs, scale: Scale, act_above: float
) -> Iterator[TimedVerdict]:
    told = slot.statements
    held_TT = truth_TK @ slot.agrees_TK.T  # how likely what statement j says was true at the time of statement i
    right = np.diagonal(held_TT)
    last = max((i for i in range(len(told)) if right[i] > 0.5), default=len(told) - 1)
    voices = [beliefs.voices.get(one.publisher, one.publisher) for one in told]
    others_of = {own: [i for i, voice in enumerate(voices) if voice != own] for own in voices}
    witnesses = {own: tuple(told[i] for i in others) for own, others in others_of.items()}
    for at, one in enumerate(told):
        others = others_of[voices[at]]
        p = scale(float(right[at])) if others else float(right[at])
        is_old = right[at] <= 0.5 and bool((held_TT[:at, at] > 0.5).any())
        still = held_TT[-1, at] > 0.5 and (agree(one.reading, told[last].reading) or right[last] <= 0.5)
        refuted = bool(others) and _refuted(slot, truth_TK, at, scale, act_above)
        helped = any(agree(one.reading, told[i].reading) and right[i] > 0.5 for i in others)
        disputed = _SETTLED < p < 1 - _SETTLED and _contested(slot, at, voices)
        superseded = is_old or (right[at] > 0.5 and not still)
        newer = superseded and not agree(one.reading, told[last].reading)
        times: Time = "undated" if not one.published else "superseded" if superseded else "current"
        start, end = _validity(held_TT[:, at] > 0.5, told, at)
        yield TimedVerdict(
            statement=one,
            stance="refuted" if refuted else "supported" if helped else "not_enough_evidence",
            time=times,
            nature="contested" if disputed else "fact",
            p=p,
            answer=_written(slot, int(np.argmax(truth_TK[at])), at, right) if refuted else "",
            newer=_newer(told, at, last, right) if newer else None,
            valid_from=start,
            valid_to=end,
            note="stale" if is_old else "",
            witnesses=witnesses[voices[at]],
        )


def _newer(told: Sequence[Statement], at: int, last: int, right: np.ndarray) -> Statement:
    """The first statement after one by which today's value, that of the last one, holds: the same publisher's, and in
    the same words, where there is one."""
    after = [i for i in range(at + 1, len(told)) if right[i] > 0.5 and agree(told[i].reading, told[last].reading)]
    own, words = told[at].publisher, told[at].relation
    first = min(after, key=lambda i: (told[i].publisher != own, told[i].relation != words, i), default=last)
    return told[first]


def _validity(held: np.ndarray, told: Sequence[Statement], at: int) -> tuple[str, str]:
    """From when to when a value held, around one statement or, if it did not hold there, before."""
    at = next((i for i in range(at, -1, -1) if held[i]), at)
    if not held[at]:
        return "", ""
    first = at
    while first and held[first - 1]:
        first -= 1
    after = next((one.published for i, one in enumerate(told) if i > at and not held[i]), "")
    return told[first].published, after


def _written(slot: Slot, value: int, at: int, right: np.ndarray) -> str:
    """The value as the nearest credible statement writes it, preferring one of the same publisher that rounds the most
    exact one of the time, and then one that is as exact as the statement in hand."""
    one = slot.statements[at]
    fitting = [i for i in range(len(slot.statements)) if slot.agrees_TK[i, value] and i != at]
    if not fitting:
        return ""

    def step(i: int) -> float:
        return slot.statements[i].reading.step

    def rounds(i: int, other: int) -> bool:
        off = abs(slot.statements[i].reading.number - slot.statements[other].reading.number)
        return (step(i) == step(other) > 0 or step(i) >= _ROUND) and off <= step(i) / 2

    exact = min(fitting, key=lambda i: (right[i] < 0.5, abs(slot.days[i] - slot.days[at]), step(i)))
    nearest = min(
        fitting,
        key=lambda i: (
            right[i] < 0.5, slot.statements[i].publisher != one.publisher or not rounds(i, exact),
            step(i) != one.reading.step, abs(i - at),
        ),
    )  # fmt: skip
    return slot.statements[nearest].text


def _contested(slot: Slot, at: int, voices: Sequence[str]) -> bool:
    """Whether two voices or more say what this statement says, and two or more another thing, again and again at one
    time."""
    own = slot.statements[at].reading
    near = [int(i) for i in np.flatnonzero(np.abs(slot.days - slot.days[at]) <= _AT_ONE_TIME)]
    if len({slot.statements[i].reading for i in near}) == 1:
        return False
    ours = [i for i in near if agree(slot.statements[i].reading, own)]
    theirs: dict[Reading, list[int]] = defaultdict(list)
    for i in near:
        if not agree(slot.statements[i].reading, own):
            theirs[slot.statements[i].reading].append(i)
    if len({voices[i] for i in ours}) < 2:
        return False
    return any(
        len({voices[i] for i in others}) > 1 and min(ours) < max(others) and min(others) < max(ours)
        for others in theirs.values()
    )
