"""The wordings that a publisher repeats: what stays in its sentences is the frame, what changes is the slot.

All sentences of a publisher are laid into a tree by their tokens. Where a page has several sentences that begin alike,
they are different wordings and the way parts; where every page has one and its continuation varies, there a value
begins (successor variety, Harris 1955, counted by pages). The same is done from the end, for wordings that begin with
a value.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from troth.curate.validate.slots.lines import Lines
from troth.curate.validate.slots.tokens import NAME, NUMBER, SLOTS, SUBJECT, YEAR

GAP = "*"

MIN_PAGES = 3
_TOGETHER = 1 << 18
"""Tokens of branches that are walked at once."""
_RARE = 0.3
_CLASSES = SLOTS | {SUBJECT}
_ALONE, _SURE, _MANY, _ABOUT = 1.15, 0.9, 99, 1.1
_IDLE = frozenset(
    "the a an of in on at by to for and or is are was were be been has have had it its this that these those there as "  # noqa: SIM905
    "with from".split()
)


@dataclass(frozen=True, slots=True)
class Placed:
    """A sentence in its frame; `slots` are ranges of its tokens, in the frame's order. `frame` is the wording."""

    frame: tuple[str, ...]
    slots: tuple[tuple[int, int], ...]


def place(lines: Lines, pages: Sequence[str]) -> list[Placed | None]:
    """The frame of each sentence of one publisher, None for a wording that does not come back.

    `pages` name the page that each sentence belongs to, with its edition.
    """
    names: dict[str, int] = {}
    page = np.fromiter((names.setdefault(one, len(names)) for one in pages), np.int64, len(pages))
    ahead, behind = (_walk(lines, page, step) for step in (1, -1))
    heads: dict[tuple[str, ...], array[int]] = {}
    tails: dict[tuple[str, ...], array[int]] = {}
    for at, (size, seen_ahead, back, seen_behind) in enumerate(zip(*ahead, *behind, strict=True)):
        if lines.is_long(at):
            continue
        form = lines.forms(at)
        head, tail = form[:size], form[len(form) - back :]
        front, end = _weight(head), _weight(tail)
        if max(front, end) < 1:
            continue
        as_usual = seen_ahead <= _ABOUT * seen_behind and seen_behind <= _ABOUT * seen_ahead
        if end < 1 or (front >= 1 and (front >= end if as_usual else seen_ahead > seen_behind)):
            heads.setdefault(head, array("I")).append(at)
        else:
            tails.setdefault(tail, array("I")).append(at)
    placed: list[Placed | None] = [None] * len(lines)
    for head, members in heads.items():
        forms = [lines.forms(at) for at in members]
        rest = _shared([form[len(head) :][::-1] for form in forms])[::-1]
        _settle(placed, forms, members, head, rest, pages)
    for tail, members in tails.items():
        forms = [lines.forms(at) for at in members]
        rest = _shared([form[: len(form) - len(tail)] for form in forms])
        _settle(placed, forms, members, rest, tail, pages)
    _merge(placed, lines)
    return placed


def _settle(
    placed: list[Placed | None], forms: list[tuple[str, ...]], members: Sequence[int], head: tuple[str, ...],
    tail: tuple[str, ...], pages: Sequence[str],
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
        if len({pages[at] for at, _ in group}) < MIN_PAGES:
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
    """Wordings that are a frequent one with something else in its place for the value join it."""
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
                and (other[len(head)] in (*SLOTS, GAP) or (GAP in frame and counts[other] < _RARE * counts[frame]))
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


def _walk(lines: Lines, page: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens from the start (`step` 1) or the end (-1) belong to each sentence's wording, and how many pages
    have it [sentences].

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
    sizes, seen = np.zeros(total, np.int32), np.zeros(total, np.int32)
    for together in _together(branches.values(), lines):
        some = [lines.forms(at)[::step] for at in together]
        sizes[together], seen[together] = _walk_some(some, page[together], begun[together])
    return sizes, seen


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


def _walk_some(forms: list[tuple[str, ...]], page: np.ndarray, begun: np.ndarray) -> tuple[list[int], list[int]]:
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
    gone: list[int] = []
    seen: list[int] = []
    start = 0
    for form, size, pages_begun in zip(forms, sizes.tolist(), begun.tolist(), strict=True):
        path = ids[start : start + size]
        start += size
        k = 1  # as enough pages have the first token
        while k < size:
            child = path[k]
            if most[child] < MIN_PAGES:
                break
            if crowd[child] <= _ALONE and counts[child] < _SURE * counts[path[k - 1]] and _weight(form[:k]) >= 1:
                break
            k += 1
        gone.append(k)
        seen.append(int(most[path[k - 1]]) if k > 1 else pages_begun)
    return gone, seen


def _shared(rests: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The longest beginning that nearly all have."""
    shared: tuple[str, ...] = ()
    while rests:
        counts = Counter(rest[len(shared)] for rest in rests if len(rest) > len(shared))
        if not counts:
            break
        token, count = counts.most_common(1)[0]
        if count < _SURE * len(rests):
            break
        shared = (*shared, token)
        rests = [rest for rest in rests if rest[: len(shared)] == shared]
    return shared


def _weight(forms: tuple[str, ...]) -> float:
    """How much a wording says: words count, little ones less, and whether a name is in it."""
    words = sum(0.4 if form in _IDLE else 1.0 for form in forms if form[0].isalpha() and form not in _CLASSES)
    return words + 0.5 * (words > 0 and (SUBJECT in forms or NAME in forms))
