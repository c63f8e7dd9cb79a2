"""The forward pass of one step: chunks of sequences in, scores of the wanted tokens out."""

from collections.abc import Sequence as Items
from typing import Protocol

import torch

from troth.model.decoder import Decoder
from troth.serve.engine.adapters import Adapters
from troth.serve.engine.decode_graphs import DecodeGraphs
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.scheduler import Chunk


class Runner(Protocol):
    """Computes a step's tokens, one chunk after the other, and stores their keys and values."""

    def run(self, chunks: Items[Chunk], wanted: list[int]) -> torch.Tensor:
        """Scores over the vocabulary, float32 [wanted, vocabulary], of the step's tokens at these places."""
        ...

    def hidden(self, chunks: Items[Chunk]) -> torch.Tensor:
        """Hidden states of all the step's tokens after the last norm, [tokens, hidden]."""
        ...


class TorchRunner:
    """The decoder as it is, on any device and for every family, with the adapters that were put into it.

    With `keeps_states`, `states_TD` are the hidden states of all tokens of the latest step. `graphs` run the steps that
    they can hold.
    """

    def __init__(
        self, model: Decoder, cache: KVCache, adapters: Adapters, keeps_states: bool = False,
        graphs: DecodeGraphs | None = None,
    ):  # fmt: skip
        self.model, self.cache, self.adapters, self.keeps_states = model, cache, adapters, keeps_states
        self.graphs = graphs
        self.states_TD = torch.empty(0)

    @torch.inference_mode()
    def run(self, chunks: Items[Chunk], wanted: list[int]) -> torch.Tensor:
        if self.graphs is not None and self.graphs.hold(chunks):
            return self.graphs.run(chunks)
        h_WD = self.hidden(chunks, wanted)
        return self.model.logits(h_WD).float() if wanted else h_WD.new_empty(0, self.model.config.vocab_size)

    @torch.inference_mode()
    def hidden(self, chunks: Items[Chunk], wanted: list[int] | None = None) -> torch.Tensor:
        """Hidden states after the last norm, [wanted, hidden]; of all the step's tokens without `wanted`."""
        tokens: list[int] = []
        positions: list[int] = []
        for chunk in chunks:
            end = chunk.start + chunk.count
            tokens += chunk.tokens
            positions += range(chunk.start, end)
        tokens_1T, positions_1T = (
            torch.tensor([part], dtype=torch.long, device=self.cache.device) for part in (tokens, positions)
        )
        attend = self.cache.attend(chunks)
        self.adapters.rows(chunk.adapter for chunk in chunks for _ in range(chunk.count))
        wanted_W = None if wanted is None else torch.tensor(wanted, dtype=torch.long, device=self.cache.device)
        if wanted_W is not None and not (self.keeps_states or self.adapters.masks):
            return self.model(tokens_1T, attend, positions_1T, wanted_W=wanted_W)[0]
        self.states_TD = self.model(tokens_1T, attend, positions_1T)[0]
        if wanted_W is None:
            return self.states_TD
        self.adapters.keep(wanted_W)
        return self.states_TD[wanted_W]
