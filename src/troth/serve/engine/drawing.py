"""From the scores of a step to what it adds to each text."""

from dataclasses import replace
from itertools import accumulate

import torch

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.request import Output, SampledToken
from troth.serve.engine.sampler import sample
from troth.serve.engine.scheduler import Chunk
from troth.serve.engine.sequence import Sequence


class Drawing:
    """Draws tokens for sequences, which end at `end_tokens`; counts how many drafts were `drafted` and `accepted`."""

    def __init__(self, tokenizer: Tokenizer, end_tokens: frozenset[int]):
        self.drafted = self.accepted = 0
        self._tokenizer = tokenizer
        self._end_tokens = end_tokens
        self._special = frozenset(tokenizer.special[text] for text in tokenizer.special.keys() - tokenizer.visible)

    def draw(
        self, chunks: list[Chunk], logits_WV: torch.Tensor, experts_WL: list[list[int]]
    ) -> tuple[list[Output], list[int]]:
        """Draw the next token of each chunk that samples, and so on behind its drafts while they are what was drawn.

        Returns the outputs, and of each chunk how many of its tokens are right: all but drafts that were not drawn.
        """
        outputs: list[Output] = []
        right = [chunk.count - max(0, chunk.samples - 1) for chunk in chunks]
        firsts = [0, *accumulate(chunk.samples for chunk in chunks)]
        drawing = [number for number, chunk in enumerate(chunks) if chunk.samples]
        place = 0
        while drawing:
            rows = [firsts[number] + place for number in drawing]
            logits_SV = logits_WV if len(rows) == len(logits_WV) else logits_WV[rows]
            going_on = []
            sampled = sample(logits_SV, [chunks[number].sequence for number in drawing], self._end_tokens)
            for number, row, token in zip(drawing, rows, sampled, strict=True):
                chunk = chunks[number]
                if experts_WL and chunk.sequence.params.experts:
                    token = replace(token, experts=tuple(experts_WL[row]))
                outputs.append(self._advance(chunk.sequence, token))
                if place + 1 < chunk.samples:
                    self.drafted += 1
                    if token.id == chunk.sequence.drafts[place]:
                        self.accepted += 1
                        right[number] += 1
                        if outputs[-1].finish_reason is None:
                            going_on.append(number)
            drawing = going_on
            place += 1
        return outputs, right

    def _advance(self, sequence: Sequence, token: SampledToken) -> Output:
        silent = token.id in self._special or token.id in sequence.params.stop_token_ids
        data = b"" if silent else self._tokenizer.decode_bytes([token.id])
        return sequence.append(token, data, token.id in self._end_tokens)
