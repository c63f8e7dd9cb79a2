"""The wordings that a publisher repeats: what stays in its sentences is the frame, what changes is the slot.

All sentences of a publisher are laid into a tree by their tokens. Where a page has several sentences that begin alike,
they are different wordings and the way parts; where every page has one and its continuation varies, there a value
begins (successor variety, Harris 1955, counted by pages). The same is done from the end, for wordings that begin with
a value. Where how a sentence goes on has nothing to do with what it speaks of, no value begins: the publisher has
several wordings.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from troth.curate.validate.slots.lines import Lines
from troth.curate.validate.slots.tokens import CLASSES, NAME, NUMBER, SLOTS, SUBJECT, YEAR

GAP = "*"

MIN_PAGES = 3
_TOGETHER = 1 << 18
"""Tokens of branches that are walked at once."""
_RARE = 0.3
_ALONE, _SURE, _MANY, _ABOUT = 1.15, 0.9, 99, 1.1
_PAIRS, _RELATED, _FEW = 20, 0.35, 2
_IDLE = frozenset(
    "the a an of in on at by to for and or is are was were be been has have had it its this that these those there as "  # noqa: SIM905
    "with from".split()
)


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
    ahead, behind = (_walk(lines, page, about, step) for step in (1, -1))
    heads: dict[tuple[str, ...], array[int]] = {}
    tails: dict[tuple[str, ...], array[int]] = {}
    for at, (size, seen_ahead, alone_ahead, back, seen_behind, alone_behind) in enumerate(
        zip(*ahead, *behind, strict=True)
    ):
        if lines.is_long(at):
            continue
        form = lines.forms(at)
        head, tail = form[:size], form[len(form) - back :]
        front, end = _weight(head), _weight(tail)
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
        for some, rest in _wordings([form[len(head) :][::-1] for form in forms], about[members]):
            _settle(placed, [forms[n] for n in some], [members[n] for n in some], head, rest[::-1], page)
    for tail, members in tails.items():
        forms = [lines.forms(at) for at in members]
        for some, rest in _wordings([form[: len(form) - len(tail)] for form in forms], about[members]):
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
            if others and wide not in joined and _weight(head) + _weight(tail) >= 1:
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


def _walk(lines: Lines, page: np.ndarray, about: np.ndarray, step: int) -> tuple[np.ndarray, ...]:
    """How many tokens from the start (`step` 1) or the end (-1) belong to each sentence's wording, how many pages have
    it, and whether these have it mostly once [sentences].

    Below a first token the tree's branches do not bear on each other, nor below the second where the first says
    nothing, so that some are walked at a time.
    """
    total = len(lines)
    firsts: dict[str, int] = {}
    first = np.fromiter((firsts.setdefault(lines.forms(at)[::step][0], len(firsts)) for at in range(total)), np.int64)
    pages = int(page.max()) + 1 if total else 0
    begun = np.bincount(np.unique(first * pages + page) // max(1, pages))[first]
    branches: dict[tuple[str, ...], array[int]] = {}
    for at in np.flatnonzero(begun >= MIN_PAGES).tolist():
        form = lines.forms(at)[::step]
        branches.setdefault(form[: 1 if _weight(form[:1]) >= 1 else 2], array("I")).append(at)
    sizes, seen, alone = np.zeros(total, np.int32), np.zeros(total, np.int32), np.zeros(total, bool)
    for together in _together(branches.values(), lines):
        some = [lines.forms(at)[::step] for at in together]
        sizes[together], seen[together], alone[together] = _walk_some(
            some, page[together], about[together], begun[together]
        )
    return sizes, seen, alone


def _together(branches: Iterable["array[int]"], lines: Lines) -> Iterator[list[int]]:
    """Branches, as the numbers of their sentences, until these have enough tokens."""
    some: list[int] = []
    tokens = 0
    for branch in branches:
        some += branch
        tokens += sum(map(lines.tokens, branch))
        if tokens > _TOGETHER:
            yield some
            some, tokens = [], 0
    if some:
        yield some


def _walk_some(
    forms: list[tuple[str, ...]], page: np.ndarray, about: np.ndarray, begun: np.ndarray
) -> tuple[list[int], list[int], list[bool]]:
    """What `_walk` gives, of some branches; `begun` is how many pages have a sentence's first token [sentences]."""
    sizes = np.fromiter((len(form) for form in forms), np.int64, len(forms))
    total, pages = int(sizes.sum()), int(page.max()) + 1
    nodes = np.empty(total, np.int64)
    at = 0
    for form in forms:
        node = 0
        for token in form:
            node = hash((node, token))
            nodes[at] = node
            at += 1
    _, ids, counts = np.unique(nodes, return_inverse=True, return_counts=True)
    on_page = ids * pages + np.repeat(page, sizes)
    pairs, first, passing = np.unique(on_page, return_index=True, return_counts=True)
    most = np.bincount(pairs // pages, minlength=len(counts))
    # How many sentences of a page go as far as the token before, on the pages that have a node.
    before = np.searchsorted(pairs, on_page[np.maximum(first - 1, 0)])
    starts = np.zeros(total, bool)
    starts[np.cumsum(sizes)[:-1]] = True
    starts[:1] = True
    rivals = np.where(starts[first], _MANY, passing[before])
    crowd = np.bincount(pairs // pages, weights=rivals, minlength=len(counts)) / most
    subjects, free = _free(ids, counts, starts, np.repeat(about, sizes))
    gone: list[int] = []
    seen: list[int] = []
    alone: list[bool] = []
    start = 0
    for form, size, pages_begun in zip(forms, sizes.tolist(), begun.tolist(), strict=True):
        path = ids[start : start + size]
        start += size
        k = 1  # as enough pages have the first token
        while k < size:
            child = path[k]
            if most[child] < MIN_PAGES:
                break
            if crowd[child] <= _ALONE:
                of_one = subjects[child] == 1 and subjects[path[k - 1]] > _FEW
                varies = counts[child] < _SURE * counts[path[k - 1]] and not free[path[k - 1]]
                if (of_one or varies) and _weight(form[:k]) >= 1:
                    break
            k += 1
        gone.append(k)
        seen.append(int(most[path[k - 1]]) if k > 1 else pages_begun)
        alone.append(k == size or crowd[path[k]] <= _ALONE)
    return gone, seen, alone


def _free(
    ids: np.ndarray, counts: np.ndarray, starts: np.ndarray, about: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each node, how many things its sentences are about, and whether how they go on has nothing to do with that;
    `ids` are the nodes of all tokens, `starts` tells which of these begin a sentence [tokens]."""
    width = int(about.max()) + 1
    both, told = np.unique(ids * width + about, return_counts=True)
    alike = np.bincount(both // width, weights=told * (told - 1.0), minlength=len(counts))
    total = counts * (counts - 1.0)
    above = np.full(len(counts), -1)
    above[ids[1:][~starts[1:]]] = ids[:-1][~starts[1:]]
    parents = np.flatnonzero(above >= 0)
    went_on, went_on_alike = (
        np.bincount(above[parents], weights=pairs[parents], minlength=len(counts)) for pairs in (total, alike)
    )
    free = _unrelated(alike, went_on_alike, total - alike, went_on - went_on_alike)
    return np.bincount(both // width, minlength=len(counts)), free


def _unrelated(alike: Any, same_alike: Any, others: Any, same_others: Any) -> Any:
    """Whether sentences about the same thing go on in the same way hardly more often than those about different ones;
    given the numbers of pairs, and of those that do. False where there are too few to tell."""
    p, q = same_alike / np.maximum(1, alike), same_others / np.maximum(1, others)
    return (alike >= _PAIRS) & (others >= _PAIRS) & (p - q < _RELATED * (1 - q))


def _wordings(
    rests: Sequence[tuple[str, ...]], about: np.ndarray
) -> Iterator[tuple[list[int], tuple[str, ...]]]:
    """Parts of some sentences and the longest beginning that nearly all of a part have, given what the sentences are
    about."""
    waiting: list[tuple[list[int], tuple[str, ...]]] = [(list(range(len(rests))), ())]
    while waiting:
        some, shared = waiting.pop()
        following: dict[str, list[int]] = defaultdict(list)
        for one in some:
            following[rests[one][len(shared)] if len(rests[one]) > len(shared) else ""].append(one)
        token = max(following, key=lambda token: len(following[token])) if following else ""
        if token and len(following[token]) >= _SURE * len(some):
            waiting.append((following[token], (*shared, token)))
        elif _is_wording(following, about):
            subjects = len(set(about[some]))
            value: list[int] = []
            for token, part in following.items():
                if token and (subjects <= _FEW or len(set(about[part])) > 1):
                    waiting.append((part, (*shared, token)))
                else:
                    value += part
            yield value, shared
        else:
            yield some, shared


def _is_wording(following: Mapping[str, Sequence[int]], about: np.ndarray) -> bool:
    """Whether how sentences go on has nothing to do with what they are about."""
    if len(following) < 2:
        return False
    sizes = [len(part) for part in following.values()]
    told = Counter(about[one] for part in following.values() for one in part)
    told_so = [Counter(about[part]) for part in following.values()]
    alike = _pairs(told.values())
    same_alike = sum(_pairs(one.values()) for one in told_so)
    return bool(_unrelated(alike, same_alike, _pairs([sum(sizes)]) - alike, _pairs(sizes) - same_alike))


def _pairs(sizes: Iterable[int]) -> int:
    return sum(size * (size - 1) for size in sizes)


def _weight(forms: tuple[str, ...]) -> float:
    """How much a wording says: words count, little ones less, and whether a name is in it."""
    words = sum(0.4 if form in _IDLE else 1.0 for form in forms if form[0].isalpha() and form not in CLASSES)
    return words + 0.5 * (words > 0 and (SUBJECT in forms or NAME in forms))
