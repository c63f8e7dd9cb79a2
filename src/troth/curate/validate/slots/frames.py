"""The wordings that a publisher repeats: what stays in its sentences is the frame, what changes is the slot.

All sentences of a publisher are laid into a tree by their tokens. Where a page has several sentences that begin alike,
they are different wordings and the way parts; where every page has one and its continuation varies, there a value
begins (successor variety, Harris 1955, counted by pages). The same is done from the end, for wordings that begin with
a value. Where how a sentence goes on has nothing to do with what it speaks of, no value begins: the publisher has
several wordings.
"""

from array import array
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from troth.curate.validate.slots.lines import Lines
from troth.curate.validate.slots.tokens import NAME, NUMBER, SLOTS, YEAR
from troth.curate.validate.slots.variety import MIN_PAGES, walk, weight, wordings

GAP = "*"

_RARE, _ABOUT = 0.3, 1.1


@dataclass(frozen=True, slots=True)
class Placed:
    """A sentence in its frame; `slots` are ranges of its tokens, in the frame's order. `frame` is the wording."""

    frame: tuple[str, ...]
    slots: tuple[tuple[int, int], ...]


def place(lines: Lines, pages: Sequence[tuple[str, str]]) -> list[Placed | None]:
    """The frame of each sentence of one publisher, None for a wording that does not come back.

    `pages` are the page that each sentence belongs to: its edition, and what it is about.
    """
    page, about = _numbered(pages), _numbered([name for _, name in pages])
    ahead, behind = (walk(lines, page, about, step) for step in (1, -1))
    heads: dict[tuple[str, ...], array[int]] = {}
    tails: dict[tuple[str, ...], array[int]] = {}
    for at, (size, seen_ahead, alone_ahead, back, seen_behind, alone_behind) in enumerate(
        zip(*ahead, *behind, strict=True)
    ):
        if lines.is_long(at):
            continue
        form = lines.forms(at)
        head, tail = form[:size], form[len(form) - back :]
        front, end = weight(head), weight(tail)
        if max(front, end) < 1:
            continue
        as_usual = seen_ahead <= _ABOUT * seen_behind and seen_behind <= _ABOUT * seen_ahead
        is_head = alone_ahead if alone_ahead != alone_behind else front >= end if as_usual else seen_ahead > seen_behind
        if end < 1 or (front >= 1 and is_head):
            heads.setdefault(head, array("I")).append(at)
        else:
            tails.setdefault(tail, array("I")).append(at)
    placed: list[Placed | None] = [None] * len(lines)
    for head, members in heads.items():
        forms = [lines.forms(at) for at in members]
        for some, rest in wordings([form[len(head) :][::-1] for form in forms], about[members]):
            _settle(placed, [forms[n] for n in some], [members[n] for n in some], head, rest[::-1], page)
    for tail, members in tails.items():
        forms = [lines.forms(at) for at in members]
        for some, rest in wordings([form[: len(form) - len(tail)] for form in forms], about[members]):
            _settle(placed, [forms[n] for n in some], [members[n] for n in some], rest, tail, page)
    _merge(placed, lines)
    return placed


def _settle(
    placed: list[Placed | None], forms: list[tuple[str, ...]], members: Sequence[int], head: tuple[str, ...],
    tail: tuple[str, ...], page: np.ndarray,
) -> None:  # fmt: skip
    """Place the members of one wording, whose `forms` are given: those that are it to the word, and those that have
    something between."""
    fixed = len(head) + len(tail)
    fitting = [
        (at, len(form)) for at, form in zip(members, forms, strict=True)
        if form[: len(head)] == head and form[len(form) - len(tail) :] == tail
    ]  # fmt: skip
    for varied in (False, True):
        group = [(at, size) for at, size in fitting if (size > fixed if varied else size == fixed)]
        if len({page[at] for at, _ in group}) < MIN_PAGES:
            continue
        while varied and head and head[-1] in SLOTS and head[-1] != YEAR:
            head = head[:-1]
        while varied and tail and tail[0] in SLOTS and tail[0] != YEAR:
            tail = tail[1:]
        frame = (*head, GAP, *tail) if varied else (*head, *tail)
        of_size = {size: _in_frame(frame, size) for size in {size for _, size in group}}
        for at, size in group:
            placed[at] = of_size[size]


def _in_frame(frame: tuple[str, ...], size: int) -> Placed:
    """A sentence of `size` tokens laid into a frame."""
    if GAP not in frame:
        return Placed(frame, _fixed_slots(frame))
    at = frame.index(GAP)
    tail = frame[at + 1 :]
    last = size - len(tail)
    return Placed(
        frame, (*_fixed_slots(frame[:at]), (at, last), *((a + last, b + last) for a, b in _fixed_slots(tail)))
    )


def _merge(placed: list[Placed | None], lines: Lines) -> None:
    """Wordings that are a frequent one with something else in its place for the value join it; a more frequent one
    does so only where nothing else than its value differs."""
    counts = Counter(one.frame for one in placed if one)
    # Only these are asked for, so that the index stays small.
    openings = [opening for frame in counts for opening in _openings(frame)]
    begins: dict[tuple[str, ...], list[tuple[str, ...]]] = {head: [] for head, _ in openings}
    ends: dict[tuple[str, ...], list[tuple[str, ...]]] = {tail: [] for _, tail in openings}
    for frame in sorted(counts):
        for size in range(len(frame)):
            if frame[:size] in begins:
                begins[frame[:size]].append(frame)
            if frame[len(frame) - size :] in ends:
                ends[frame[len(frame) - size :]].append(frame)
    joined: dict[tuple[str, ...], tuple[str, ...]] = {}
    for frame in sorted(counts, key=lambda frame: (-counts[frame], frame)):
        if frame in joined:
            continue
        for head, tail in _openings(frame):
            wide = (*head, GAP, *tail)
            others = [
                other for other in min(begins[head], ends[tail], key=len)
                if other not in joined and other not in (frame, wide) and len(other) >= len(wide)
                and other[: len(head)] == head and other[len(other) - len(tail) :] == tail
                and (
                    counts[other] < _RARE * counts[frame] if GAP in frame and other[len(head)] not in (*SLOTS, GAP)
                    else other[len(head)] in (*SLOTS, GAP)
                    and (counts[other] <= counts[frame] or (head, tail) in _openings(other))
                )
            ]  # fmt: skip
            if others and wide not in joined and weight(head) + weight(tail) >= 1:
                joined |= dict.fromkeys((*others, *([] if wide == frame else [frame])), wide)
                break
    known: dict[tuple[tuple[str, ...], int], Placed] = {}
    for at, one in enumerate(placed):
        if one and one.frame in joined:
            frame = one.frame
            while frame in joined:
                frame = joined[frame]
            size = lines.tokens(at)
            placed[at] = known.get((frame, size)) or known.setdefault((frame, size), _in_frame(frame, size))


def _openings(frame: tuple[str, ...]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """What stands before and after the place of the value: the gap, or the last and the first slot."""
    if GAP in frame:
        at = frame.index(GAP)
        return [(frame[:at], frame[at + 1 :])]
    runs = [run for run in _fixed_slots(frame) if frame[run[0]] != YEAR]
    return [(frame[:first], frame[last:]) for first, last in dict.fromkeys((*runs[-1:], *runs[:1]))]


def _fixed_slots(forms: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Ranges of class tokens; neighbours are one value, and so are several of a kind with commas between (8 50 S, 13
    13 E), but a year stands by itself."""
    found: list[tuple[int, int]] = []
    for at, form in enumerate(forms):
        if form not in SLOTS:
            continue
        if found and form != YEAR and forms[found[-1][0]] != YEAR:
            first, last = found[-1]
            kinds = set(forms[first:last])
            if last == at or (
                last == at - 1 and forms[last] in ",/-" and form in kinds and (NUMBER in kinds or form == NAME)
            ):
                found[-1] = (first, at + 1)
                continue
        found.append((at, at + 1))
    return tuple(found)


def _numbered(names: Sequence[Hashable]) -> np.ndarray:
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(one, len(numbers)) for one in names), np.int64, len(names))
