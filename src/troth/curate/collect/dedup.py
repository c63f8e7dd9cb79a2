"""Exact and near duplicates: MinHash finds candidates (Broder 1997; rensa), shared word 5-grams decide.

Two texts that write different figures in the same words are not duplicates but editions, of which one may be
outdated or wrong: both stay, for the verdicts to tell.
"""

import re
from dataclasses import dataclass

from rensa import RMinHash, RMinHashLSH

from troth.curate.document import Document

SHINGLE_WORDS = 5
_PERMUTATIONS, _BANDS, _SEED = 128, 64, 1
_WORD = re.compile(r"\w+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Duplicate:
    """A document that was left out: `of` is the source of the one that stays in its place, `score` the share of its
    (or that one's, if smaller) word 5-grams that both have, `kind` is `exact` or `near`."""

    source: str
    of: str
    score: float
    kind: str


def drop_duplicates(documents: list[Document], near_duplicate: float) -> tuple[list[Document], list[Duplicate]]:
    """Documents without those that repeat another one, in the order given, and what each of the rest repeats.

    Of several, the one published first stays (undated ones count as last); of the same date the longest; then the
    first by source. Documents are compared with others of their kind: prose, code or facts. A near duplicate shares
    at least `near_duplicate` of the smaller one's word 5-grams; facts, all said in the same few wordings, are compared
    as a whole only. The result does not depend on the order given.
    """
    order = sorted(range(len(documents)), key=lambda at: _rank(documents[at]))
    ranked = [documents[at] for at in order]
    shingles = [_shingles(document.text) for document in ranked]
    hashes = RMinHash.from_token_sets([sorted(found) for found in shingles], _PERMUTATIONS, _SEED)
    index = RMinHashLSH(threshold=0.5, num_perm=_PERMUTATIONS, num_bands=_BANDS)
    first: dict[tuple[str, str], int] = {}
    stays: list[int] = []
    duplicates: list[Duplicate] = []
    for number, document in enumerate(ranked):
        group = document.kind
        original = first.setdefault((group, document.text), number)
        stays.append(stays[original] if original != number else number)
        if original != number:
            same = stays[original] == original
            score = 1.0 if same else _containment(shingles[number], shingles[stays[original]])
            duplicates.append(
                Duplicate(document.source, ranked[stays[original]].source, score, "exact" if same else "near")
            )
            continue
        if group == "facts":
            continue
        score = 0.0
        for other in sorted(index.query(hashes[number])):
            if ranked[other].kind == group:
                shared = _containment(shingles[number], shingles[other])
                if shared > score and shared >= near_duplicate and not _editions(document.text, ranked[other].text):
                    score, stays[number] = shared, other
        if stays[number] == number:
            index.insert(number, hashes[number])
        else:
            duplicates.append(Duplicate(document.source, ranked[stays[number]].source, score, "near"))
    kept = {order[number] for number, other in enumerate(stays) if other == number}
    return [document for at, document in enumerate(documents) if at in kept], duplicates


def _rank(document: Document) -> tuple[bool, str, int, str, str]:
    return not document.published, document.published, -len(document.text), document.source, document.text


def _shingles(text: str) -> set[str]:
    words = _WORD.findall(text.lower())
    return {" ".join(words[at : at + SHINGLE_WORDS]) for at in range(max(1, len(words) - SHINGLE_WORDS + 1))}


def _containment(a: set[str], b: set[str]) -> float:
    return len(a & b) / min(len(a), len(b))


def _editions(a: str, b: str) -> bool:
    """Whether somewhere the two words before and after a figure are the same, and the figure is not."""
    in_a, in_b = _figures(a), _figures(b)
    return any(in_a[words].isdisjoint(in_b[words]) for words in in_a.keys() & in_b.keys())


def _figures(text: str) -> dict[tuple[str, ...], set[str]]:
    words = _WORD.findall(text.lower())
    found: dict[tuple[str, ...], set[str]] = {}
    for at in range(2, len(words) - 2):
        if words[at][0].isdigit():
            found.setdefault((*words[at - 2 : at], *words[at + 1 : at + 3]), set()).add(words[at])
    return found
