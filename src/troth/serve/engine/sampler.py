"""Draws the next token of every sequence of a step, each with its own parameters and random numbers."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from troth.serve.engine.drawer import Drawer
from troth.serve.engine.request import SampledToken
from troth.serve.engine.sequence import Sequence


def sample(
    logits_SV: torch.Tensor, sequences: list[Sequence], drawer: Drawer, end_tokens: Iterable[int] = ()
) -> list[SampledToken]:
    """One token for each row of `logits_SV`, float32 [sequences, vocabulary], which may be changed in place.

    `end_tokens` end a text, which those that have `min_tokens` before them may not do yet.
    """
    # Log-probabilities are the model's own, before anything is done to its scores.
    asked = [row for row, sequence in enumerate(sequences) if sequence.params.logprobs is not None]
    counts = [sequences[row].params.logprobs or 0 for row in asked]
    likeliest = drawer.likeliest(_rows(logits_SV, asked), max(counts)) if asked else ([], [], [])
    before = {row: logits_SV[row].clone() for row in asked if sequences[row].changes_scores}
    for row, sequence in enumerate(sequences):
        with sequence.own_fault():
            _change(logits_SV[row], sequence, end_tokens)
    drawn = [row for row, sequence in enumerate(sequences) if sequence.params.temperature > 0]
    chosen = [0] * len(sequences) if len(drawn) == len(sequences) else _best(logits_SV).tolist()
    if drawn:
        some = [sequences[row] for row in drawn]
        uniform_S = [torch.rand((), dtype=torch.float64, generator=s.generator).item() for s in some]
        tokens = drawer.draw(_rows(logits_SV, drawn), [s.params for s in some], uniform_S)
        for row, token in zip(drawn, tokens, strict=True):
            chosen[row] = token
    sampled = list(map(SampledToken, chosen))
    own = [before.get(row, logits_SV[row])[chosen[row]].item() for row in asked]
    told = _told([chosen[row] for row in asked], own, counts, *likeliest)
    for row, with_logprobs in zip(asked, told, strict=True):
        sampled[row] = with_logprobs
    return sampled


def _change(logits_V: torch.Tensor, sequence: Sequence, end_tokens: Iterable[int]) -> None:
    """What a request does to the scores of its next token, in place."""
    if sequence.penalties is not None:
        sequence.penalties.apply(logits_V)
    if sequence.guide is not None:
        sequence.guide.mask(logits_V)
    if sequence.output_tokens < sequence.params.min_tokens and (sequence.guide is None or sequence.guide.open):
        logits_V[[*end_tokens, *sequence.params.stop_token_ids]] = float("-inf")
    if sequence.unwanted is not None:
        sequence.unwanted.avoid(logits_V, sequence.tokens, sequence.prompt_tokens)


def score(logits_TV: torch.Tensor, tokens: list[int], count: int, drawer: Drawer) -> list[SampledToken]:
    """Tokens that were given, with the log-probabilities that scores [tokens, vocabulary] mean for them and for the
    `count` likeliest, and the places that they have among all."""
    own_T1 = logits_TV.gather(1, torch.tensor(tokens, device=logits_TV.device)[:, None])
    ranks = [better + 1 for better in _above(logits_TV, own_T1)]
    told = _told(tokens, own_T1[:, 0].tolist(), [count] * len(tokens), *drawer.likeliest(logits_TV, count))
    return [replace(token, rank=rank) for token, rank in zip(told, ranks, strict=True)]


def _told(
    tokens: list[int], scores: list[float], counts: list[int],
    sums: list[float], likeliest: list[list[int]], their_scores: list[list[float]],
) -> list[SampledToken]:  # fmt: skip
    """Tokens with their log-probabilities and those of as many likeliest ones as `counts` say."""
    return [
        SampledToken(token, score - of_all, tuple((i, x - of_all) for i, x in zip(*top, strict=True))[:count])
        for token, score, count, of_all, *top in zip(
            tokens, scores, counts, sums, likeliest, their_scores, strict=True
        )
    ]


def _rows(logits_SV: torch.Tensor, rows: list[int]) -> torch.Tensor:
    return logits_SV if len(rows) == len(logits_SV) else logits_SV[rows]


def _above(logits_TV: torch.Tensor, own_T1: torch.Tensor) -> list[int]:
    """How many scores in each row are higher. On a CPU NumPy counts in a fraction of the time that torch takes."""
    if logits_TV.device.type == "cpu":
        pairs = zip(logits_TV.numpy(), own_T1[:, 0].tolist(), strict=True)
        return [int(np.count_nonzero(row_V > own)) for row_V, own in pairs]
    return (logits_TV > own_T1).sum(-1).tolist()


def _best(logits_SV: torch.Tensor) -> torch.Tensor:
    """The highest score's place in each row. On a CPU NumPy finds it in a tenth of the time that torch takes."""
    if logits_SV.device.type == "cpu":
        return torch.from_numpy(logits_SV.numpy().argmax(axis=-1))
    return logits_SV.argmax(dim=-1)
