"""Steps of a decoder in C++: one call each, which allocates nothing."""

import ctypes
from collections.abc import Sequence as Items

import numpy as np
import torch

from troth.serve.engine.cpu.library import Model, Span, load
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
        spans = (Span * len(chunks))()
        held = []
        row = 0
        for span, chunk, adapter in zip(spans, chunks, adapters, strict=True):
            tables = [np.array(table, dtype=np.int32) for table in (chunk.blocks, chunk.sliding_blocks)]
            held += tables
            span.row, span.count, span.start, span.adapter = row, chunk.count, chunk.start, adapter
            span.blocks, span.window_blocks = (table.ctypes.data for table in tables)
            row += chunk.count
        token_T, wanted_W = np.array(tokens, dtype=np.int32), np.array(wanted, dtype=np.int32)
        given, logits, states, experts, gates = (
            None if part is None else part.data_ptr()
            for part in (given_TD, logits_WV, states_TD, experts_LWk, gates_LWk)
        )
        self._library.troth_step(
            self._decoder, token_T.ctypes.data, len(tokens), given, spans, len(chunks), wanted_W.ctypes.data,
            len(wanted), logits, states, experts, gates,
        )  # fmt: skip
