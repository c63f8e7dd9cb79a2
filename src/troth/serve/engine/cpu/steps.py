"""Steps of a decoder in C++: one call each, which allocates nothing."""

import ctypes
from array import array
from collections.abc import Sequence as Items

import torch

from troth.serve.engine.cpu.library import Draw, Model, Span, load
from troth.serve.engine.sampling_params import SamplingParams
from troth.serve.engine.scheduler import Chunk


class Steps:
    """Runs steps of up to `most_rows` tokens on `threads` threads. Whoever calls keeps the packed weights."""

    def __init__(self, model: Model, most_rows: int, threads: int):
        self.most_rows = most_rows
        self._model = model  # the library reads its layers
        library = load()
        assert library is not None
        self._library = library
        self._decoder = library.troth_open(ctypes.byref(model), most_rows, threads)

    def __del__(self) -> None:
        if getattr(self, "_decoder", None):
            self._library.troth_close(self._decoder)

    def __call__(
        self, chunks: Items[Chunk], adapters: Items[int], tokens: list[int], wanted: list[int],
        logits_WV: torch.Tensor | None, states_TD: torch.Tensor | None = None, given_TD: torch.Tensor | None = None,
        experts_LWk: torch.Tensor | None = None, gates_LWk: torch.Tensor | None = None,
    ) -> None:  # fmt: skip
        """The chunks' `tokens`, each chunk with the adapter of this number (-1: none). Filled are, where they are
        there, scores, float32, and experts and gates of the tokens at the places `wanted`, and the states of all after
        the last norm. A module of multi-token prediction goes on from `given_TD`."""
        assert len(tokens) <= self.most_rows, f"{len(tokens)} tokens in a step for {self.most_rows}"
        # All tables in one array: one for each, of numpy's, would be a fifth of what Python does in a step.
        tables, starts = array("i"), []
        for chunk in chunks:
            for table in (chunk.blocks, chunk.sliding_blocks):
                starts.append(len(tables))
                tables.extend(table)
        first = tables.buffer_info()[0]
        spans = (Span * len(chunks))()
        row = 0
        for number, (span, chunk, adapter) in enumerate(zip(spans, chunks, adapters, strict=True)):
            span.row, span.count, span.start, span.adapter = row, chunk.count, chunk.start, adapter
            span.blocks = first + starts[2 * number] * tables.itemsize
            span.window_blocks = first + starts[2 * number + 1] * tables.itemsize
            row += chunk.count
        token_T, wanted_W = array("i", tokens), array("i", wanted)
        given, logits, states, experts, gates = (
            None if part is None else part.data_ptr()
            for part in (given_TD, logits_WV, states_TD, experts_LWk, gates_LWk)
        )
        self._library.troth_step(
            self._decoder, token_T.buffer_info()[0], len(tokens), given, spans, len(chunks),
            wanted_W.buffer_info()[0], len(wanted), logits, states, experts, gates,
        )  # fmt: skip

    def draw(self, logits_SV: torch.Tensor, params: Items[SamplingParams], uniform_S: Items[float]) -> list[int]:
        """`Drawer.draw` on this decoder's threads."""
        count, vocabulary = logits_SV.shape
        how = (Draw * count)(
            *(
                Draw(min(max(p.top_k, 0), vocabulary), p.temperature, p.top_p, p.min_p, uniform)
                for p, uniform in zip(params, uniform_S, strict=True)
            )
        )
        tokens = (ctypes.c_int32 * count)()
        stride = logits_SV.stride(0)
        self._library.troth_draw(self._decoder, logits_SV.data_ptr(), stride, vocabulary, how, count, tokens)
        return list(tokens)

    def likeliest(
        self, logits_SV: torch.Tensor, count: int
    ) -> tuple[list[float], list[list[int]], list[list[float]]]:
        """`Drawer.likeliest` on this decoder's threads."""
        rows, vocabulary = logits_SV.shape
        count = min(count, vocabulary)
        sums_S, scores_SK = torch.empty(rows, dtype=torch.float64), torch.empty(rows, count)
        ids_SK = torch.empty(rows, count, dtype=torch.int32)
        self._library.troth_likeliest(
            self._decoder, logits_SV.data_ptr(), logits_SV.stride(0), vocabulary, rows, count,
            sums_S.data_ptr(), ids_SK.data_ptr(), scores_SK.data_ptr(),
        )  # fmt: skip
        return sums_S.tolist(), ids_SK.tolist(), scores_SK.tolist()
