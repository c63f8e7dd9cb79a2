"""Where the sentences of a publisher part, in a tree of their tokens, and whether that is the way to another wording
or to a value (successor variety, Harris 1955, counted by pages); see `frames`."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from troth.curate.validate.slots.lines import Lines
from troth.curate.validate.slots.tokens import CLASSES, NAME, SUBJECT

MIN_PAGES = 3
"""That have a wording which comes back."""
_TOGETHER = 1 << 18
"""Tokens of branches that are walked at once."""
_ALONE, _SURE, _MANY = 1.15, 0.9, 99
_PAIRS, _RELATED, _FEW = 20, 0.35, 2
_IDLE = frozenset(
    "the a an of in on at by to for and or is are was were be been has have had it its this that these those there as "  # noqa: SIM905
    "with from".split()
)


def walk(lines: Lines, page: np.ndarray, about: np.ndarray, step: int) -> tuple[np.ndarray, ...]:
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
        branches.setdefault(form[: 1 if weight(form[:1]) >= 1 else 2], array("I")).append(at)
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
    """What `walk` gives, of some branches; `begun` is how many pages have a sentence's first token [sentences]."""
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
                if (of_one or varies) and weight(form[:k]) >= 1:
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


def wordings(
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


def _unrelated(alike: Any, same_alike: Any, others: Any, same_others: Any) -> Any:
    """Whether sentences about the same thing go on in the same way hardly more often than those about different ones;
    given the numbers of pairs, and of those that do. False where there are too few to tell."""
    p, q = same_alike / np.maximum(1, alike), same_others / np.maximum(1, others)
    return (alike >= _PAIRS) & (others >= _PAIRS) & (p - q < _RELATED * (1 - q))


def _pairs(sizes: Iterable[int]) -> int:
    return sum(size * (size - 1) for size in sizes)


def weight(forms: tuple[str, ...]) -> float:
    """How much a wording says: words count, little ones less, and whether a name is in it."""
    words = sum(0.4 if form in _IDLE else 1.0 for form in forms if form[0].isalpha() and form not in CLASSES)
    return words + 0.5 * (words > 0 and (SUBJECT in forms or NAME in forms))
