"""Guesses of the next tokens, which a step checks beside the token that it computes anyway (Leviathan et al.,
2211.17192).

Each place's token is drawn from the model's own scores, with the random number that the place would have without
drafts, and a draft stands while it is the token drawn: the text is the same as without drafts, only sooner.
"""

from collections.abc import Sequence as Items
from dataclasses import replace
from itertools import accumulate
from typing import Protocol
from weakref import WeakKeyDictionary

import torch

from troth.model.decoder import Decoder
from troth.model.mtp import MTPModule
from troth.model.rope import Positions
from troth.serve.engine.adapters import Adapters
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


class Module(Protocol):
    """The first module of multi-token prediction: told the token that was drawn, it guesses the one after it."""

    def scores(self, states_TD: torch.Tensor, chunks: Items[Chunk], told: list[int], last: list[int]) -> torch.Tensor:
        """Scores over the vocabulary, [last, vocabulary], behind the tokens at the places `last` of the chunks', which
        have these states and are each `told` the token behind them."""
        ...


class TorchModule:
    """The module as it is, on any device."""

    def __init__(self, model: Decoder, module: MTPModule, cache: KVCache, adapters: Adapters):
        self.model, self.module, self.cache, self.adapters = model, module, cache, adapters

    def scores(self, states_TD: torch.Tensor, chunks: Items[Chunk], told: list[int], last: list[int]) -> torch.Tensor:
        device = self.cache.device
        positions = [position for c in chunks for position in range(c.start, c.start + c.count)]
        told_1T, positions_1T = (torch.tensor([part], device=device) for part in (told, positions))
        # As the decoder's own embedding but for its scale, which the norm behind it takes away.
        embedded_1TD = self.model.embed_tokens(told_1T)
        h_1TD = self.module(
            states_TD[None], embedded_1TD, Positions.of(positions_1T, self.model.config), self.cache.attend(chunks)
        )
        self.adapters.rows(chunk.adapter for chunk in chunks)  # adapters may be of the head
        return self.model.logits(h_1TD[0, last])


class MTPDrafter:
    """Has a module guess.

    Its layer has keys and values of its own, the cache's layer behind the decoder's last. The last ones of a shared
    block may come from another continuation: that may spoil a guess, never a text.
    """

    def __init__(self, module: Module, runner: KeepsStates, vocab_size: int):
        self.module, self.runner, self.vocab_size = module, runner, vocab_size

    def draft(self, chunks: Items[Chunk], places: list[int]) -> list[list[int]]:
        """Everything is told the token behind it, of a prompt too, so that the layer knows all that came before."""
        told = [token for c in chunks for token in c.sequence.tokens[c.start + 1 : c.start + c.count + 1]]
        last = [end - 1 for end in accumulate(c.count for c in chunks)]
        logits_CV = self.module.scores(self.runner.states_TD[places], chunks, told, last)
        return [[token] for token in logits_CV[:, : self.vocab_size].argmax(-1).tolist()]


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
