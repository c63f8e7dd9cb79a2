"""The mixture of collections that a run reads: each by its weight, where weights name any of them.

Which collection a row comes from is found by halving, not by counting: a binary tree (Huffman, 1952) splits the rows
between its halves by rounding their shares, and every half again. Each row's place follows from its number alone.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from troth.system import Stage

_TOKENIZER_CHARACTERS = 8_000_000
_BITS = 64


class Mixture:
    """`mixture[row]` is the collection of a row and how many earlier rows came from that collection.

    Over any stretch of rows of one stage each collection has its share, to a row or two. `rows` is the length of the
    run, by which stages are placed; each collection goes on in a stage where it was. Raises ValueError where a
    stage's weights name none of the collections.
    """

    def __init__(
        self, sizes: Mapping[str, int], weights: Mapping[str, float], stages: Sequence[Stage] = (), rows: int = 0
    ):
        for stage in stages:
            if not any(stage.weights.get(name) for name in sizes):
                raise ValueError(
                    f"data.stages: from={stage.start} gives weight to none of the collections {', '.join(sizes)}"
                )
        assert rows or not stages
        firsts = [0, *(round(stage.start * rows) for stage in stages)]
        trees = [_tree(shares(sizes, own)) for own in (weights, *(stage.weights for stage in stages))]
        before = dict.fromkeys(sizes, 0)
        self.parts: list[tuple[int, _Node, dict[str, int]]] = []
        """Of each stage the first row, the tree, and the rows of each collection before it."""
        for i, (first, tree) in enumerate(zip(firsts, trees, strict=True)):
            self.parts.append((first, tree, before))
            if i + 1 < len(firsts):
                before = before | {name: before[name] + n for name, n in _counts(tree, firsts[i + 1] - first)}
        self.names = sorted({name for tree in trees for name, _ in _counts(tree, 0)})

    def __getitem__(self, row: int) -> tuple[str, int]:
        first, node, before = next(part for part in reversed(self.parts) if part[0] <= row)
        row -= first
        while isinstance(node, _Fork):
            left = node.left_rows(row)
            if node.left_rows(row + 1) > left:
                node, row = node.left, left
            else:
                node, row = node.right, row - left
        return node, before[node] + row


@dataclass(frozen=True)
class _Fork:
    """Of each 2**_BITS rows, `share` go left."""

    left: "_Node"
    right: "_Node"
    share: int

    def left_rows(self, rows: int) -> int:
        """How many of the first `rows` rows go left: their share, rounded."""
        return (rows * self.share + 2 ** (_BITS - 1)) >> _BITS


_Node = _Fork | str
"""What rows come to: a fork, or the collection that gives them."""


def _tree(share: Mapping[str, float]) -> _Node:
    """The two smallest go together until all are one, so that no share is rounded often."""
    heap: list[tuple[float, str, _Node]] = [(part, name, name) for name, part in share.items()]
    heapq.heapify(heap)
    while len(heap) > 1:
        (small, name, left), (large, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        fork = _Fork(left, right, round(small / (small + large) * 2**_BITS))
        heapq.heappush(heap, (small + large, name, fork))
    return heap[0][2]


def _counts(node: _Node, rows: int) -> Iterator[tuple[str, int]]:
    """How many of the first `rows` rows each collection gives."""
    if isinstance(node, str):
        yield node, rows
    else:
        left = node.left_rows(rows)
        yield from _counts(node.left, left)
        yield from _counts(node.right, rows - left)


def shares(sizes: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, float]:
    """Each collection's share of what is read: by `weights`, or by size where they name none of the collections.

    Shares sum to 1; collections without a share are left out.
    """
    share = {name: weights.get(name, 0.0) for name in sizes}
    if not any(share.values()):
        share = {name: float(size) for name, size in sizes.items()}
    whole = sum(share.values())
    return {name: part / whole for name, part in sorted(share.items()) if part > 0}


def sample(
    texts: Iterable[tuple[str, str]], weights: Mapping[str, float], characters: int = _TOKENIZER_CHARACTERS
) -> Iterator[str]:
    """Texts of the mixture, to learn a tokenizer from: of each collection its share of so many characters, its
    (collection, text) pairs read again from the start as often as that takes. A collection without a weight is read
    once, so that its characters are known too. Of each collection no more than its first `characters` are held."""
    members: dict[str, list[str]] = {}
    sizes: Counter[str] = Counter()
    for collection, text in texts:
        if sizes[collection] < characters:
            members.setdefault(collection, []).append(text)
        sizes[collection] += len(text)
    share = shares(sizes, weights)
    for name, own in members.items():
        room = share.get(name, 0.0) * characters
        for text in cycle(own) if name in share else own:
            yield text
            room -= len(text)
            if room <= 0 and name in share:
                break
