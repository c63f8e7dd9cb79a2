"""What was true when: the credible value of each slot over time, and how reliable each publisher is.

A slot is one fact; its statements, in the order of their dates, are what publishers saw of a value that may change. A
hidden Markov model has the stated values as its states: a publisher states the value of its day, or an earlier one, or
makes a mistake. How often each publisher does what, and how often values of each relation change within how long, is
found by expectation and maximisation over all slots (truth discovery after Dawid & Skene 1979, over time as in Dong
et al. 2009). Publishers that copy each other have one voice.
"""

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from troth.curate.validate.slots.readings import Reading
from troth.curate.validate.slots.slot import Slot
from troth.curate.validate.slots.voices import voices

_OTHER_VALUES = 50.0
_ROUNDS = 8
_YEAR = 365.25
_FLOOR = 1e-12
_UNKNOWN = (0.9, 0.04, 0.06)
"""What is thought of a publisher at first."""
_PRIOR, _RARELY = 10.0, 0.002
_APART = np.array([0.02, 0.12, 0.35, 0.8, 1.6])
_AT_FIRST = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.3])
"""Years between two statements that are told apart, and how likely a change is at first, before anything is known."""


@dataclass
class Beliefs:
    """What holds for publishers (right, old, wrong: shares of their statements; and whose voice they have) and for
    relations (how likely a value changes between two statements, by how far they are apart)."""

    publishers: dict[str, tuple[float, float, float]]
    changes: dict[int, np.ndarray]
    voices: dict[str, str]


def believe(slots: Sequence[Slot], mirrors: Container[str] = ()) -> tuple[Beliefs, list[np.ndarray]]:
    """The beliefs that explain all slots best, and for each slot how likely each value was true at each statement [T,
    K]."""
    if not slots:
        return Beliefs({}, {}, {}), []
    publishers = sorted({one.publisher for slot in slots for one in slot.statements})
    beliefs = Beliefs(dict.fromkeys(publishers, _UNKNOWN), {slot.relation: _AT_FIRST for slot in slots}, {})
    beliefs.voices = voices(slots, mirrors)
    batches = list(_batches(slots, publishers, beliefs.voices))
    for _ in range(_ROUNDS):
        beliefs, truths = _round(slots, batches, beliefs, publishers)
    return beliefs, truths


def reconsider(slots: Sequence[Slot], beliefs: Beliefs) -> list[np.ndarray]:
    """How likely each value of slots was true at each statement [T, K], by beliefs that were found before."""
    publishers = sorted({one.publisher for slot in slots for one in slot.statements})
    truths = [np.empty(0)] * len(slots)
    shares = np.array([beliefs.publishers.get(name, _UNKNOWN) for name in publishers])
    for batch in _batches(slots, publishers, beliefs.voices):
        _settle(slots, batch, beliefs, shares, truths)
    return truths


def _settle(
    slots: Sequence[Slot], batch: "_Batch", beliefs: Beliefs, shares: np.ndarray, truths: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    rates = np.stack([beliefs.changes.get(slots[i].relation, _AT_FIRST) for i in batch.members])
    moves = np.where(batch.later_BT, np.take_along_axis(rates, batch.apart_BT, 1), 0.0)
    truth, switches = _smooth(batch, shares, moves)
    for b, i in enumerate(batch.members):
        t, k = slots[i].agrees_TK.shape
        truths[i] = truth[b, :t, :k]
    return truth, switches


@dataclass(frozen=True)
class _Batch:
    """Slots of like size, padded: B slots of T statements and K values. Only from a statement to a `later` one can a
    value change: of one date, their order says nothing."""

    members: list[int]
    agrees_BTK: np.ndarray
    seen_BT: np.ndarray
    who_BT: np.ndarray
    apart_BT: np.ndarray
    later_BT: np.ndarray
    here_BT: np.ndarray
    valid_BK: np.ndarray
    weight_BT: np.ndarray


def _weights(slot: Slot, voice: dict[str, str]) -> np.ndarray:
    """How much each statement counts: publishers of one voice that say the same share what one would count."""
    said: dict[tuple[str, Reading], set[str]] = defaultdict(set)
    for one in slot.statements:
        said[voice.get(one.publisher, one.publisher), one.reading].add(one.publisher)
    return np.array([1 / len(said[voice.get(one.publisher, one.publisher), one.reading]) for one in slot.statements])


def _batches(slots: Sequence[Slot], publishers: list[str], voice: dict[str, str]) -> Iterator[_Batch]:
    number = {name: i for i, name in enumerate(publishers)}
    bins: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, slot in enumerate(slots):
        t, k = slot.agrees_TK.shape
        bins[_round_up(t), _round_up(k)].append(i)
    for (most_t, most_k), members in sorted(bins.items()):
        agrees = np.zeros((len(members), most_t, most_k), bool)
        seen, who, gap = (np.zeros((len(members), most_t)) for _ in range(3))
        here, valid, weight = (
            np.zeros((len(members), most_t), bool),
            np.zeros((len(members), most_k), bool),
            np.ones_like(gap),
        )
        for b, i in enumerate(members):
            slot = slots[i]
            t, k = slot.agrees_TK.shape
            agrees[b, :t, :k] = slot.agrees_TK
            here[b, :t], valid[b, :k] = True, True
            who[b, :t] = [number[one.publisher] for one in slot.statements]
            gap[b, 1:t] = np.diff(slot.days) / _YEAR
            seen[b, :t] = slot.seen_T
            weight[b, :t] = _weights(slot, voice)
        yield _Batch(members, agrees, seen, who.astype(int), np.digitize(gap, _APART), gap > 0, here, valid, weight)


def _round_up(n: int) -> int:
    return next(size for size in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256) if size >= n)


def _round(
    slots: Sequence[Slot], batches: list[_Batch], beliefs: Beliefs, publishers: list[str]
) -> tuple[Beliefs, list[np.ndarray]]:
    """One step of expectation and maximisation."""
    shares = np.array([beliefs.publishers[name] for name in publishers])
    told = np.zeros((len(publishers), 3))
    changed: dict[int, np.ndarray] = defaultdict(lambda: np.zeros((2, len(_APART) + 1)))
    truths: list[np.ndarray] = [np.empty(0)] * len(slots)
    for batch in batches:
        truth, switches = _settle(slots, batch, beliefs, shares, truths)
        right = (truth * batch.agrees_BTK).sum(2)
        kinds = np.stack([right, (1 - right) * batch.seen_BT, (1 - right) * (1 - batch.seen_BT)], 2)
        np.add.at(told, batch.who_BT[batch.here_BT], kinds[batch.here_BT])
        for b, i in enumerate(batch.members):
            total = changed[slots[i].relation]
            steps = batch.here_BT[b, 1:] & batch.later_BT[b, 1:]
            np.add.at(total[0], batch.apart_BT[b, 1:][steps], switches[b, 1:][steps])
            np.add.at(total[1], batch.apart_BT[b, 1:][steps], 1.0)
    told += _PRIOR * (told.sum(0) + 1) / (told.sum() + 3)
    whole = np.sum(list(changed.values()), axis=0)
    usual = (whole[0] + _PRIOR * _AT_FIRST) / (whole[1] + _PRIOR)
    new = np.maximum(told / told.sum(1, keepdims=True), _RARELY)
    return Beliefs(
        {name: (float(a), float(b), float(c)) for name, (a, b, c) in zip(publishers, new, strict=True)},
        {relation: (n + _PRIOR * usual) / (steps + _PRIOR) for relation, (n, steps) in changed.items()},
        beliefs.voices,
    ), truths


def _smooth(batch: _Batch, shares: np.ndarray, move_BT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forward and backward over each slot: probabilities [B, T, K], and of a change before each statement [B, T].

    A value that comes new is one of many possible ones, as a mistake is; else mistakes would look like changes.
    """
    right, old, wrong = (shares[batch.who_BT][..., i] for i in range(3))
    miss = np.where(batch.seen_BT > 0, old + wrong / _OTHER_VALUES, wrong / _OTHER_VALUES)
    emit = np.where(batch.agrees_BTK, right[..., None], miss[..., None])
    emit = np.where(batch.here_BT[..., None], emit ** batch.weight_BT[..., None], 1.0) * batch.valid_BK[:, None, :]
    others = np.maximum(_OTHER_VALUES, batch.valid_BK.sum(1) - 1)[:, None]
    steps = emit.shape[1]
    alpha = np.zeros_like(emit)
    beta = np.ones_like(emit)
    alpha[:, 0] = emit[:, 0] / np.maximum(_FLOOR, emit[:, 0].sum(1, keepdims=True))
    for t in range(1, steps):
        move = move_BT[:, t, None]
        ahead = (
            (1 - move) * alpha[:, t - 1] + move / others * (alpha[:, t - 1].sum(1, keepdims=True) - alpha[:, t - 1])
        ) * emit[:, t]
        alpha[:, t] = ahead / np.maximum(_FLOOR, ahead.sum(1, keepdims=True))
    switches = np.zeros(emit.shape[:2])
    for t in range(steps - 1, 0, -1):
        move = move_BT[:, t, None]
        later = beta[:, t] * emit[:, t]
        total = later.sum(1, keepdims=True)
        back = ((1 - move) * later + move / others * (total - later)) * batch.valid_BK
        stay = (alpha[:, t - 1] * (1 - move) * later).sum(1)
        go = (alpha[:, t - 1] * move / others * (total - later)).sum(1)
        switches[:, t] = go / np.maximum(_FLOOR, stay + go)
        beta[:, t - 1] = back / np.maximum(_FLOOR, back.sum(1, keepdims=True))
    truth = alpha * beta
    return truth / np.maximum(_FLOOR, truth.sum(2, keepdims=True)), switches
