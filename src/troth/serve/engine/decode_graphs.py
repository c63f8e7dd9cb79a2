"""Decoding steps as CUDA graphs: hundreds of small kernels that one call starts, in place of hundreds of calls.

A graph holds addresses and shapes, so that a step's tokens, positions and block tables are copied to where the graph of
its size reads them. There is one for each power of two of sequences, made when first needed; the rows that a smaller
batch leaves repeat its first sequence, whose keys are then written several times over, alike.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch

from troth.model.decoder import Decoder
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.packed_weights import packed_kind
from troth.serve.engine.paged_attention import PagedAttention, Pages
from troth.serve.engine.scheduler import Chunk


@dataclass(frozen=True)
class Inputs:
    """What a step of P sequences is computed from: a token of each, and `pages` that also say where it stands."""

    tokens_P: torch.Tensor
    pages: Pages

    @classmethod
    def of(cls, cache: KVCache, chunks: Items[Chunk]) -> "Inputs":
        """Those of chunks of one token."""
        tokens = [chunk.tokens[0] for chunk in chunks]
        return cls(torch.tensor(tokens, device=cache.device), Pages.of(cache, chunks))

    @classmethod
    def room(cls, cache: KVCache, sequences: int, columns: int) -> "Inputs":
        """Places for those of so many sequences, with block tables of so many columns."""
        kinds = ["full_attention", "sliding_attention"] if cache.config.slides else ["full_attention"]

        def zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=cache.device)

        pages = Pages(
            {kind: zeros(sequences, dtype=torch.int64) for kind in kinds},
            {kind: zeros(sequences, columns, dtype=torch.int32) for kind in kinds},
            zeros(sequences, dtype=torch.int32),
            torch.arange(sequences + 1, dtype=torch.int32, device=cache.device),
            most=1,
        )
        return cls(zeros(sequences, dtype=torch.int64), pages)

    def fill(self, other: "Inputs") -> None:
        """Take over another's numbers; its tables may have fewer columns."""
        self.tokens_P.copy_(other.tokens_P)
        self.pages.starts_S.copy_(other.pages.starts_S)
        for kind, table_SL in other.pages.tables.items():
            self.pages.slots[kind].copy_(other.pages.slots[kind])
            self.pages.tables[kind][:, : table_SL.shape[1]].copy_(table_SL)


def decode(model: Decoder, cache: KVCache, inputs: Inputs) -> torch.Tensor:
    """Scores over the vocabulary, float32 [sequences, vocabulary], of a step; the host waits for nothing in it."""
    positions_P = inputs.pages.starts_S.long()
    h_PD = model(inputs.tokens_P[None], PagedAttention(cache, inputs.pages), positions_P[None])[0]
    return model.logits(h_PD).float()


def can_hold(model: Decoder, cache: KVCache) -> bool:
    """Whether a GPU takes steps as graphs: products of experts do not wait for the host in bfloat16 from Hopper on."""
    bfloat16 = cache.dtype == torch.bfloat16 and packed_kind(model) is None
    return cache.pages and bfloat16 and torch.cuda.get_device_capability(cache.device) >= (9, 0)


class DecodeGraphs:
    """Steps of up to `most` sequences that decode, each with up to `columns` blocks; on the CPU the same without
    graphs."""

    def __init__(self, model: Decoder, cache: KVCache, most: int, columns: int):
        self.model, self.cache, self.most, self.columns = model, cache, most, columns
        self._inputs: dict[int, Inputs] = {}
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}

    def hold(self, chunks: Items[Chunk]) -> bool:
        """Whether they can run a step: every sequence decodes without drafts, and nobody watches the routers."""
        return (
            len(chunks) <= self.most
            and all(chunk.count == chunk.samples == 1 for chunk in chunks)
            and all(moe.observe is None for moe in self.model.moe_layers())
        )

    def run(self, chunks: Items[Chunk]) -> torch.Tensor:
        """`decode` of the chunks; the result holds until the next step."""
        size = 1 << (len(chunks) - 1).bit_length()
        if size not in self._inputs:
            self._inputs[size] = Inputs.room(self.cache, size, self.columns)
        inputs = self._inputs[size]
        inputs.fill(Inputs.of(self.cache, [*chunks, *[chunks[0]] * (size - len(chunks))]))
        if self.cache.device.type != "cuda":
            return decode(self.model, self.cache, inputs)[: len(chunks)]
        if size not in self._graphs:
            self._graphs[size] = self._captured(inputs)
        graph, logits_PV = self._graphs[size]
        graph.replay()
        return logits_PV[: len(chunks)]

    def _captured(self, inputs: Inputs) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        # Once before: kernels are compiled and libraries take their memory, which a graph must not do.
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            decode(self.model, self.cache, inputs)
        torch.cuda.current_stream().wait_stream(aside)
        # Graphs run one after the other, so that they can share the memory of what they pass on inside.
        pool = next((graph.pool() for graph, _ in self._graphs.values()), None)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            logits_PV = decode(self.model, self.cache, inputs)
        return graph, logits_PV
