"""Guesses of the next tokens, which a step checks beside the token that it computes anyway (Leviathan et al.,
2211.17192).

Each place's token is drawn from the model's own scores, with the random number that the place would have without
drafts, and a draft stands while it is the token drawn: the text is the same as without drafts, only sooner.
"""

from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Protocol
from weakref import WeakKeyDictionary

import torch

from troth.model.decoder import Decoder
from troth.model.mtp import MTP
from troth.model.rope import Positions
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.scheduler import Chunk
from troth.serve.engine.sequence import Sequence

_LENGTH = 3


class Drafter(Protocol):
    """Guesses after a step, whose tokens are drawn and whose blocks are still all held."""

    def draft(self, chunks: Items[Chunk], places: list[int]) -> list[list[int]]:
        """Next tokens for each chunk's sequence, whose tokens, and one behind them, are certain; `places` are those of
        the chunks' tokens in the step. What is guessed within a prompt is not used."""
        ...


class KeepsStates(Protocol):
    """A runner that has the hidden states of its latest step, [tokens, hidden]."""

    states_TD: torch.Tensor


class LookupDrafter:
    """What followed when the last three tokens stood in the text before (prompt lookup, Saxena, 2023)."""

    def __init__(self, count: int):
        self.count = count
        self._places: WeakKeyDictionary[Sequence, tuple[int, dict[tuple[int, ...], int]]] = WeakKeyDictionary()

    def draft(self, chunks: Items[Chunk], places: list[int]) -> list[list[int]]:
        return [self._lookup(chunk.sequence) if chunk.samples else [] for chunk in chunks]

    def _lookup(self, sequence: Sequence) -> list[int]:
        """Places are those behind three tokens, the latest of each; the text's end itself is left for the next time."""
        tokens = sequence.tokens
        known, places = self._places.get(sequence, (_LENGTH, {}))
        for place in range(known, len(tokens)):
            places[tuple(tokens[place - _LENGTH : place])] = place
        self._places[sequence] = max(known, len(tokens)), places
        found = places.get(tuple(tokens[-_LENGTH:]))
        return [] if found is None else tokens[found : found + self.count]


class MTPDrafter:
    """The first module of multi-token prediction: told the token that was drawn, it guesses the one after it.

    Its layer has keys and values of its own, the cache's layer behind the decoder's last. The last ones of a shared
    block may come from another continuation: that may spoil a guess, never a text.
    """

    def __init__(self, model: Decoder, mtp: MTP, cache: KVCache, runner: KeepsStates, vocab_size: int):
        self.model, self.cache, self.runner, self.vocab_size = model, cache, runner, vocab_size
        self.module = next(iter(mtp.layers.values()))

    def draft(self, chunks: Items[Chunk], places: list[int]) -> list[list[int]]:
        """Everything is told the token behind it, of a prompt too, so that the layer knows all that came before."""
        config, device = self.model.config, self.cache.device
        told = [token for c in chunks for token in c.sequence.tokens[c.start + 1 : c.start + c.count + 1]]
        positions = [position for c in chunks for position in range(c.start, c.start + c.count)]
        told_1T, positions_1T = (torch.tensor([part], device=device) for part in (told, positions))
        # As the decoder's own embedding but for its scale, which the norm behind it takes away.
        embedded_1TD = self.model.embed_tokens(told_1T)
        h_1TD = self.module(
            self.runner.states_TD[None, places], embedded_1TD, Positions.of(positions_1T, config),
            self.cache.attend(chunks),
        )  # fmt: skip
        last = torch.tensor([c.count for c in chunks], device=device).cumsum(0) - 1
        logits_CV = self.model.logits(h_1TD[0, last])[:, : self.vocab_size]
        return [[token] for token in logits_CV.argmax(-1).tolist()]


def guess(drafter: Drafter, chunks: list[Chunk], right: list[int], finished: list[str]) -> None:
    """Have the drafts of each unfinished sequence guessed, for the next step to check; of each chunk the first `right`
    tokens are certain."""
    certain: list[Chunk] = []
    places: list[int] = []
    place = 0
    for chunk, count in zip(chunks, right, strict=True):
        if chunk.sequence.request.id not in finished:
            certain.append(replace(chunk, count=count))
            places += range(place, place + count)
        place += chunk.count
    if not certain:
        return
    for chunk, drafts in zip(certain, drafter.draft(certain, places), strict=True):
        sequence = chunk.sequence
        # The last token is never computed: nothing follows it.
        sequence.drafts = drafts[: sequence.most_tokens - len(sequence.tokens) - 1] if chunk.samples else []
