"""The mixture of collections that a run reads: each by its weight, where weights name any of them."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import cycle

_TOKENIZER_CHARACTERS = 8_000_000


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
    once, so that none of its characters is unknown."""
    members: dict[str, list[str]] = {}
    for collection, text in texts:
        members.setdefault(collection, []).append(text)
    share = shares({name: sum(map(len, own)) for name, own in members.items()}, weights)
    for name, own in members.items():
        room = share.get(name, 0.0) * characters
        for text in cycle(own) if name in share else own:
            yield text
            room -= len(text)
            if room <= 0 and name in share:
                break
