"""Draws the next token of every sequence of a step, each with its own parameters and random numbers."""

from collections.abc import Iterable

import torch

from troth.serve.engine.request import SampledToken
from troth.serve.engine.sequence import Sequence


def sample(
    logits_SV: torch.Tensor, sequences: list[Sequence], end_tokens: Iterable[int] = ()
) -> list[SampledToken]:
    """One token for each row of `logits_SV`, float32 [sequences, vocabulary], which may be changed in place.

    `end_tokens` end a text, which those that have `min_tokens` before them may not do yet.
    """
    logprobs = _logprobs(logits_SV, sequences)
    for row, sequence in enumerate(sequences):
        _penalise(logits_SV[row], sequence)
        if sequence.guide is not None:
            sequence.guide.mask(logits_SV[row])
        elif sequence.output_tokens < sequence.params.min_tokens:
            logits_SV[row, [*end_tokens, *sequence.params.stop_token_ids]] = float("-inf")
        if sequence.unwanted is not None:
            sequence.unwanted.avoid(logits_SV[row], sequence.tokens, sequence.prompt_tokens)
    chosen_S = _best(logits_SV)
    drawn = [row for row, sequence in enumerate(sequences) if sequence.params.temperature > 0]
    if drawn:
        some = [sequences[row] for row in drawn]
        chosen_S[drawn] = _draw(logits_SV if len(drawn) == len(sequences) else logits_SV[drawn], some)
    return [
        SampledToken(token) if table is None else _with_logprobs(token, table)
        for token, table in zip(chosen_S.tolist(), logprobs, strict=True)
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


def _penalise(logits_V: torch.Tensor, sequence: Sequence) -> None:
    """Penalties on tokens that were there before, and the bias that was asked for, in place."""
    params = sequence.params
    if params.repetition_penalty != 1:
        ids = torch.tensor(list(sequence.prompt_ids | sequence.output_counts.keys()), device=logits_V.device)
        before = logits_V[ids]
        logits_V[ids] = torch.where(before > 0, before / params.repetition_penalty, before * params.repetition_penalty)
    if (params.presence_penalty or params.frequency_penalty) and sequence.output_counts:
        ids = torch.tensor(list(sequence.output_counts), device=logits_V.device)
        counts = torch.tensor(list(sequence.output_counts.values()), device=logits_V.device, dtype=logits_V.dtype)
        logits_V[ids] -= params.presence_penalty + params.frequency_penalty * counts
    if params.logit_bias:
        ids = torch.tensor(list(params.logit_bias), device=logits_V.device)
        logits_V[ids] += torch.tensor(list(params.logit_bias.values()), device=logits_V.device, dtype=logits_V.dtype)


def _best(logits_SV: torch.Tensor) -> torch.Tensor:
    """The highest score's place in each row. On a CPU NumPy finds it in a tenth of the time that torch takes."""
    if logits_SV.device.type == "cpu":
        return torch.from_numpy(logits_SV.numpy().argmax(axis=-1))
    return logits_SV.argmax(dim=-1)


def _draw(logits_SV: torch.Tensor, sequences: list[Sequence]) -> torch.Tensor:
    """Token ids [sequences] drawn after temperature, top-k, top-p and min-p.

    Inverts the cumulative distribution in the order of the vocabulary, at one uniform number a token: a rounding error
    from another batch then moves a border between neighbours, where an order by probability could swap tokens.
    """
    params = [sequence.params for sequence in sequences]

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=logits_SV.device, dtype=torch.float32)[:, None]

    probs_SV = torch.softmax(logits_SV / column([p.temperature for p in params]), dim=-1)
    if any(p.top_k > 0 or p.top_p < 1 or p.min_p > 0 for p in params):
        size = logits_SV.shape[-1]
        sorted_SV = probs_SV.sort(dim=-1, descending=True).values
        before_SV = sorted_SV.cumsum(-1) - sorted_SV
        top_k = column([p.top_k if 0 < p.top_k < size else size for p in params])
        keep_SV = torch.arange(size, device=logits_SV.device) < top_k
        # A top_p of 1 keeps all, though rounding may take the sum of what comes before beyond 1.
        keep_SV &= before_SV < column([p.top_p if p.top_p < 1 else 2.0 for p in params])
        keep_SV &= sorted_SV >= sorted_SV[:, :1] * column([p.min_p for p in params])
        keep_SV[:, 0] = True
        # Tokens exactly as likely as the last one kept stay too.
        last_S1 = keep_SV.sum(-1, keepdim=True) - 1
        probs_SV = torch.where(probs_SV >= sorted_SV.gather(1, last_S1), probs_SV, 0)
    cumulative_SV = probs_SV.double().cumsum(-1)
    uniform_S = torch.cat([torch.rand(1, dtype=torch.float64, generator=s.generator) for s in sequences])
    target_S1 = uniform_S.to(logits_SV.device)[:, None] * cumulative_SV[:, -1:]
    return torch.searchsorted(cumulative_SV, target_S1, right=True)[:, 0].clamp(max=logits_SV.shape[-1] - 1)


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
