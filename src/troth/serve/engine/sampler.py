"""Draws the next token of every sequence of a step, each with its own parameters and random numbers."""

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items

import numpy as np
import torch

from troth.serve.engine.request import SampledToken
from troth.serve.engine.sampling_params import SamplingParams
from troth.serve.engine.sequence import Sequence

Draw = Callable[[torch.Tensor, Items[SamplingParams], Items[float]], list[int]]
"""As `draw` is."""


def draw(logits_SV: torch.Tensor, params: Items[SamplingParams], uniform_S: Items[float]) -> list[int]:
    """A token id for each row of scores, float32 [rows, vocabulary], at temperatures above 0, from what min-p, top-k
    and top-p leave, each of what the one before it left, as in vLLM.

    Inverts the cumulative distribution in the order of the vocabulary, at one uniform number a token: a rounding error
    from another batch then moves a border between neighbours, where an order by probability could swap tokens.
    """

    def column(values: Iterable[float]) -> torch.Tensor:
        return torch.tensor(list(values), device=logits_SV.device, dtype=torch.float32)[:, None]

    probs_SV = torch.softmax(logits_SV / column(p.temperature for p in params), dim=-1)
    if any(p.min_p > 0 for p in params):
        least_S1 = column(p.min_p for p in params) * probs_SV.amax(-1, keepdim=True)
        probs_SV = torch.where(probs_SV >= least_S1, probs_SV, 0)
    if any(p.top_k > 0 or p.top_p < 1 for p in params):
        size = logits_SV.shape[-1]
        sorted_SV = _descending(probs_SV)
        # Tokens exactly as likely as the last one kept stay too.
        last_S1 = column(p.top_k if 0 < p.top_k < size else size for p in params).long() - 1
        sorted_SV = torch.where(sorted_SV >= sorted_SV.gather(1, last_S1), sorted_SV, 0)
        ends_SV = sorted_SV.cumsum(-1)
        # A top_p of 1 keeps all, though rounding may take the sum of what comes before beyond 1.
        share_S1 = column(p.top_p if p.top_p < 1 else 2.0 for p in params) * ends_SV[:, -1:]
        kept_SV = (ends_SV - sorted_SV < share_S1) & (sorted_SV > 0)
        last_S1 = kept_SV.sum(-1, keepdim=True).clamp(min=1) - 1
        probs_SV = torch.where(probs_SV >= sorted_SV.gather(1, last_S1), probs_SV, 0)
    cumulative_SV = probs_SV.double().cumsum(-1)
    share_S = torch.tensor(uniform_S, dtype=torch.float64, device=logits_SV.device)
    places_S1 = torch.searchsorted(cumulative_SV, share_S[:, None] * cumulative_SV[:, -1:], right=True)
    return places_S1[:, 0].clamp(max=logits_SV.shape[-1] - 1).tolist()


def sample(
    logits_SV: torch.Tensor, sequences: list[Sequence], end_tokens: Iterable[int] = (), draw: Draw = draw
) -> list[SampledToken]:
    """One token for each row of `logits_SV`, float32 [sequences, vocabulary], which may be changed in place.

    `end_tokens` end a text, which those that have `min_tokens` before them may not do yet. Where the likeliest token is
    not asked for, one is drawn by `draw`.
    """
    logprobs = _logprobs(logits_SV, sequences)
    for row, sequence in enumerate(sequences):
        if sequence.penalties is not None:
            sequence.penalties.apply(logits_SV[row])
        if sequence.guide is not None:
            sequence.guide.mask(logits_SV[row])
        elif sequence.output_tokens < sequence.params.min_tokens:
            logits_SV[row, [*end_tokens, *sequence.params.stop_token_ids]] = float("-inf")
        if sequence.unwanted is not None:
            sequence.unwanted.avoid(logits_SV[row], sequence.tokens, sequence.prompt_tokens)
    drawn = [row for row, sequence in enumerate(sequences) if sequence.params.temperature > 0]
    chosen = [0] * len(sequences) if len(drawn) == len(sequences) else _best(logits_SV).tolist()
    if drawn:
        some_SV = logits_SV if len(drawn) == len(sequences) else logits_SV[drawn]
        some = [sequences[row] for row in drawn]
        uniform_S = [torch.rand((), dtype=torch.float64, generator=s.generator).item() for s in some]
        for row, token in zip(drawn, draw(some_SV, [s.params for s in some], uniform_S), strict=True):
            chosen[row] = token
    return [
        SampledToken(token) if table is None else _with_logprobs(token, table)
        for token, table in zip(chosen, logprobs, strict=True)
    ]


def score(logits_TV: torch.Tensor, tokens: list[int], count: int) -> list[SampledToken]:
    """Tokens that were given, with the log-probabilities that scores [tokens, vocabulary] mean for them and for the
    `count` likeliest, and the places that they have among all."""
    logprobs_TV = torch.log_softmax(logits_TV.float(), dim=-1)
    own_T1 = logprobs_TV.gather(1, torch.tensor(tokens, device=logits_TV.device)[:, None])
    own, ranks = own_T1[:, 0].tolist(), ((logprobs_TV > own_T1).sum(-1) + 1).tolist()
    values, ids = (top.tolist() for top in logprobs_TV.topk(min(count, logprobs_TV.shape[1]), dim=-1))
    return [
        SampledToken(token, logprob, tuple(zip(*top, strict=True)), rank=rank)
        for token, logprob, rank, *top in zip(tokens, own, ranks, ids, values, strict=True)
    ]


def _best(logits_SV: torch.Tensor) -> torch.Tensor:
    """The highest score's place in each row. On a CPU NumPy finds it in a tenth of the time that torch takes."""
    if logits_SV.device.type == "cpu":
        return torch.from_numpy(logits_SV.numpy().argmax(axis=-1))
    return logits_SV.argmax(dim=-1)


def _descending(x_SV: torch.Tensor) -> torch.Tensor:
    """Each row sorted. On a CPU NumPy does that in a tenth of the time that torch takes."""
    if x_SV.device.type == "cpu":
        return torch.from_numpy(np.sort(x_SV.numpy(), axis=-1)[:, ::-1].copy())
    return x_SV.sort(dim=-1, descending=True).values


def _logprobs(logits_SV: torch.Tensor, sequences: list[Sequence]) -> list[tuple[torch.Tensor, int] | None]:
    """For rows that asked: log-probabilities [vocabulary] and how many alternatives."""
    tables: list[tuple[torch.Tensor, int] | None] = [None] * len(sequences)
    for row, sequence in enumerate(sequences):
        if sequence.params.logprobs is not None:
            tables[row] = (torch.log_softmax(logits_SV[row], dim=-1), sequence.params.logprobs)
    return tables


def _with_logprobs(token: int, table: tuple[torch.Tensor, int]) -> SampledToken:
    logprobs_V, count = table
    values, ids = logprobs_V.topk(min(count, len(logprobs_V)))
    return SampledToken(token, logprobs_V[token].item(), tuple(zip(ids.tolist(), values.tolist(), strict=True)))
