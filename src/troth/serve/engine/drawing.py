"""From the scores of a step to what it adds to each text."""

import logging
from dataclasses import replace
from itertools import accumulate

import torch

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.drawer import Drawer
from troth.serve.engine.request import Output, SampledToken, failed
from troth.serve.engine.sampler import sample, score
from troth.serve.engine.scheduler import Chunk
from troth.serve.engine.sequence import Sequence

log = logging.getLogger(__name__)


class Drawing:
    """Draws tokens for sequences, which end at `end_tokens`; counts how many drafts were `drafted` and `accepted`. One
    with a fault of its own gets an output that says so, as its last."""

    def __init__(self, tokenizer: Tokenizer, end_tokens: frozenset[int], drawer: Drawer):
        self.drafted = self.accepted = 0
        self._tokenizer = tokenizer
        self._end_tokens, self._drawer = end_tokens, drawer
        self._special = frozenset(tokenizer.special[text] for text in tokenizer.special.keys() - tokenizer.visible)

    def draw(
        self, chunks: list[Chunk], logits_WV: torch.Tensor, experts_WL: list[list[int]]
    ) -> tuple[list[Output], list[int]]:
        """Score the tokens of prompts that are to be, draw the next token of each chunk that samples, and so on behind
        its drafts while they are what was drawn. `logits_WV` are of each chunk's scored and then its sampling places.

        Returns the outputs, and of each chunk how many of its tokens are right: all but drafts that were not drawn.
        """
        outputs: list[Output] = []
        right = [chunk.count - max(0, chunk.samples - 1) for chunk in chunks]
        firsts = [0, *accumulate(chunk.scored + chunk.samples for chunk in chunks)]
        for chunk, first in zip(chunks, firsts, strict=False):
            if chunk.scored:
                with chunk.sequence.own_fault():
                    self._score(chunk, logits_WV[first : first + chunk.scored])
        drawing = [number for number, chunk in enumerate(chunks) if chunk.samples]
        place = 0
        while drawing:
            rows = [firsts[number] + chunks[number].scored + place for number in drawing]
            logits_SV = logits_WV if len(rows) == len(logits_WV) else logits_WV[rows]
            going_on = []
            sequences = [chunks[number].sequence for number in drawing]
            sampled = sample(logits_SV, sequences, self._drawer, self._end_tokens)
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
        output = None
        with sequence.own_fault():
            output = self._append(sequence, token)
        if output is None or sequence.fault is not None:
            assert sequence.fault is not None
            log.error("request %s failed", sequence.request.id, exc_info=sequence.fault)
            return failed(sequence.request, sequence.fault, sequence.output_tokens)
        return output

    def _append(self, sequence: Sequence, token: SampledToken) -> Output:
        params = sequence.params
        ends = token.id in params.stop_token_ids or (token.id in self._end_tokens and not params.ignore_eos)
        silent = (ends and not params.include_stop_str_in_output) or (
            params.skip_special_tokens and token.id in self._special
        )
        output = sequence.append(token, b"" if silent else self._tokenizer.decode_bytes([token.id]), ends)
        return self._first(sequence, output) if output.output_tokens == 1 else output

    def _first(self, sequence: Sequence, output: Output) -> Output:
        """The first output of a text, with what is told of its prompt."""
        params = sequence.params
        if params.max_tokens == 0:
            output = replace(output, text="", tokens=(), output_tokens=0, finish_reason="length", stop_reason=None)
        if params.prompt_logprobs is not None:
            output = replace(output, prompt=tuple(sequence.scored))
        if not params.echo:
            return output
        prompt = sequence.scored if sequence.scores_prompt else map(SampledToken, sequence.request.prompt)
        return replace(output, tokens=(*prompt, *output.tokens))

    def _score(self, chunk: Chunk, logits_TV: torch.Tensor) -> None:
        """Where a sequence lost its place and is computed again, some of its prompt has been scored."""
        sequence, first = chunk.sequence, chunk.start + 1
        done = len(sequence.scored) - first
        tokens = sequence.tokens[first + done : first + len(logits_TV)]
        assert sequence.params.scored is not None
        sequence.scored += score(logits_TV[done:], tokens, sequence.params.scored, self._drawer)
