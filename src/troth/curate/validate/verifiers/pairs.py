"""What a linear verifier sees of a claim and a passage: which words, numbers and names have a counterpart, which
stand in another's place, what is denied. Feature names are hashed (Weinberger et al. 2009), so that the model is one
array."""

import zlib
from collections.abc import Iterator
from itertools import pairwise

from troth.curate.validate.verifiers.words import QUANTIFIERS, Word, alike, opposite, opposites, words

BUCKETS = 1 << 16
_NEAR = 4


def features(claim: str, passage: str) -> list[int]:
    """The buckets of a pair's features, each in 0..BUCKETS-1; every feature is there or not."""
    return sorted({zlib.crc32(name.encode()) % BUCKETS for name in feature_names(claim, passage)})


def feature_names(claim: str, passage: str) -> Iterator[str]:
    """The features by name."""
    yield "one"
    ours, theirs = words(claim), words(passage)
    places = [_counterpart(word, theirs) for word in ours]
    content = [i for i, word in enumerate(ours) if not word.small and not word.denies]
    met = [i for i in content if places[i] is not None]
    missed = [i for i in content if places[i] is None]
    yield f"overlap {_bin(len(met), len(content))}"
    for kind in ("word", "name", "number", "year", "month"):
        of_kind = [i for i in content if ours[i].kind == kind]
        if of_kind:
            share = _bin(sum(places[i] is not None for i in of_kind), len(of_kind))
            yield f"{kind} {share}"
            yield f"{kind} {share} overlap {_bin(len(met), len(content), 3)}"
    yield f"missed {min(4, len(missed))}"
    yield from _denials(ours, theirs, places, len(missed))
    yield from _turned(ours, theirs, places, missed)
    yield from _misplaced(ours, theirs, places, missed)
    yield from _order(ours, theirs, places, content)
    yield from _gaps(ours, places, content)
    for i in missed:
        yield f"lacks {ours[i].stem}"
    for word in ours:
        if word.stem in QUANTIFIERS or word.denies:
            yield f"claims {word.stem}"
            yield f"claims {word.stem} overlap {_bin(len(met), len(content), 3)}"


def _counterpart(word: Word, theirs: list[Word]) -> int | None:
    """Where a passage has a word: the word itself if it can be, else one like it."""
    if word.number is not None:
        return next((j for j, other in enumerate(theirs) if other.number == word.number), None)
    same = next((j for j, other in enumerate(theirs) if other.stem == word.stem), None)
    if same is not None or word.small:
        return same
    return next((j for j, other in enumerate(theirs) if not other.small and alike(word.stem, other.stem)), None)


def _denials(ours: list[Word], theirs: list[Word], places: list[int | None], missed: int) -> Iterator[str]:
    """Denial in one of the two, near words that both have."""
    near = {"claim": False, "passage": False}
    for i, word in enumerate(ours):
        if word.denies:
            near["claim"] |= any(place is not None for place in places[i + 1 : i + 1 + _NEAR])
    met = {place for place in places if place is not None}
    for j, word in enumerate(theirs):
        if word.denies:
            near["passage"] |= any(j < place <= j + _NEAR for place in met)
    if near["claim"] or near["passage"]:
        odd = near["claim"] != near["passage"]
        yield f"denied {odd}"
        yield f"denied {odd} missed {min(2, missed)}"
    elif any(word.denies for word in ours):
        yield "claim denies"


def _turned(ours: list[Word], theirs: list[Word], places: list[int | None], missed: list[int]) -> Iterator[str]:
    """Words whose opposite is in the passage while they are not."""
    for i in missed:
        if any(opposite(ours[i].stem, other.stem) for other in theirs):
            yield "opposite"
            yield f"opposite {ours[i].stem}"
        elif opposites(ours[i].stem):
            yield "may be turned"


def _misplaced(ours: list[Word], theirs: list[Word], places: list[int | None], missed: list[int]) -> Iterator[str]:
    """What stands in the passage where the claim has something else: next to the same neighbour, of the same kind."""
    used = {place for place in places if place is not None}
    for i in missed:
        kind = ours[i].kind
        rivals = [j for j, other in enumerate(theirs) if other.kind == kind and j not in used and not other.small]
        yield f"missed {kind} rivals {min(2, len(rivals))}"
        anchors = [(side, places[i + side]) for side in (-1, 1) if 0 <= i + side < len(ours)]
        for side, anchor in anchors:
            if anchor is None or not 0 <= anchor - side < len(theirs):
                continue
            rival = theirs[anchor - side]
            if rival.kind == kind and not rival.small and (anchor - side) not in used:
                yield f"instead {kind} {'small' if ours[i + side].small else 'content'}"
                if kind == "word":
                    yield f"instead {ours[i].stem} {rival.stem}"
        if kind in ("year", "number") and rivals:
            gaps = [abs((theirs[j].number or 0) - (ours[i].number or 0)) for j in rivals]
            yield f"{kind} off by {'little' if min(gaps) <= 10 else 'much'}"


def _order(ours: list[Word], theirs: list[Word], places: list[int | None], content: list[int]) -> Iterator[str]:
    """Whether what both have comes in the same order, names and numbers above all, and by the same neighbours."""
    found = [(i, places[i]) for i in content if places[i] is not None]
    turns = sum(b[1] < a[1] for a, b in pairwise(found))  # type: ignore[operator]
    yield f"turns {_bin(turns, max(1, len(found) - 1), 3)}"
    kept = broken = 0
    for i, place in found:
        if ours[i].kind == "word":
            continue
        own = _beside(ours, i)
        there = _beside(theirs, place)  # type: ignore[arg-type]
        if own & there:
            kept += 1
        elif own and own & {word.stem for word in theirs}:
            broken += 1
            yield f"moved {ours[i].kind}"
    yield f"kept {min(kept, 3)} moved {min(broken, 3)}"
    yield f"moved share {_bin(broken, max(1, kept + broken), 3)}"


def _beside(all_words: list[Word], at: int) -> set[str]:
    around = all_words[max(0, at - _NEAR) : at] + all_words[at + 1 : at + 1 + _NEAR]
    return {word.stem for word in around if not word.small}


def _gaps(ours: list[Word], places: list[int | None], content: list[int]) -> Iterator[str]:
    """How far apart in the passage are words that are neighbours in the claim."""
    far = near = 0
    for i, j in pairwise(content):
        first, second = places[i], places[j]
        if first is not None and second is not None:
            close = abs(first - second) <= (j - i) + 2
            near, far = near + close, far + (not close)
    yield f"apart {_bin(far, max(1, far + near), 4)}"


def _bin(part: int, whole: int, bins: int = 6) -> int:
    return bins if part == whole else int(bins * part / max(1, whole))
