"""What a step does with whole rows of scores: tokens drawn from them, and the likeliest found. Here in torch."""

from collections.abc import Iterable
from collections.abc import Sequence as Items
from typing import Protocol

import numpy as np
import torch

from troth.serve.engine.sampling_params import SamplingParams


class Drawer(Protocol):
    """Rows are float32 [rows, vocabulary] and stay as they are."""

    def draw(self, logits_SV: torch.Tensor, params: Items[SamplingParams], uniform_S: Items[float]) -> list[int]:
        """A token of each row, at temperatures above 0, from what min-p, top-k and top-p leave, each of what the one
        before it left, as in vLLM: the first up to which more than a uniform share lies."""
        ...

    def likeliest(
        self, logits_SV: torch.Tensor, count: int
    ) -> tuple[list[float], list[list[int]], list[list[float]]]:
        """Of each row the logarithm of the sum of its exponentials; its `count` likeliest tokens, and their scores."""
        ...


class TorchDrawer:
    """A `Drawer` on any device."""

    def draw(self, logits_SV: torch.Tensor, params: Items[SamplingParams], uniform_S: Items[float]) -> list[int]:
        """As `Drawer.draw`.

        Inverts the cumulative distribution in the order of the vocabulary, at one uniform number a token: a rounding
        error from another batch then moves a border between neighbours, where an order by probability could swap
        tokens.
        """

        def column(values: Iterable[float]) -> torch.Tensor:
            return torch.tensor(list(values), device=logits_SV.device, dtype=torch.float32)[:, None]

        # What is no number is never drawn, and one of these would leave nothing else.
        most = torch.finfo(torch.float32).max
        scores_SV = torch.nan_to_num(logits_SV, nan=-torch.inf, posinf=most, neginf=-torch.inf)
        scores_SV -= scores_SV.amax(-1, keepdim=True).clamp_(min=-most)
        # Lower temperatures would change nothing.
        scores_SV /= column(max(p.temperature, 1e-30) for p in params)
        probs_SV = torch.softmax(scores_SV, dim=-1).nan_to_num_(nan=0)
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

    def likeliest(
        self, logits_SV: torch.Tensor, count: int
    ) -> tuple[list[float], list[list[int]], list[list[float]]]:
        """As `Drawer.likeliest`."""
        scores_SK, ids_SK = logits_SV.topk(min(count, logits_SV.shape[1]), dim=-1)
        most_S1 = logits_SV.amax(-1, keepdim=True)
        # A float32 of the whole would leave of a likely token's little log-probability nothing but rounding.
        sums_S = most_S1[:, 0].double() + (logits_SV - most_S1).exp().sum(-1).double().log()
        return sums_S.tolist(), ids_SK.tolist(), scores_SK.tolist()


def _descending(x_SV: torch.Tensor) -> torch.Tensor:
    """Each row sorted; NumPy does that as much faster."""
    if x_SV.device.type == "cpu":
        return torch.from_numpy(np.sort(x_SV.numpy(), axis=-1)[:, ::-1].copy())
    return x_SV.sort(dim=-1, descending=True).values
