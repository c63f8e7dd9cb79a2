"""Log-probabilities of given tokens in chunks, so that the [tokens, vocabulary] scores never exist whole.

Unlike the next-token loss, whose gradient is known as it is computed, a token's log-probability is weighted later on;
so the forward pass keeps one number a token, and the backward pass forms the scores again.
"""

from typing import Any

import torch

from troth.model.products import widens

_CHUNK_BYTES = 2**26
_LEAST_ROWS = 128
"""A chunk's scores take so many bytes, unless that were fewer tokens than make an efficient product."""


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h_ND: torch.Tensor, w_VD: torch.Tensor, targets_N: torch.Tensor, scale: float, softcap: float | None
    ) -> torch.Tensor:
        log_sums = torch.empty(len(h_ND), dtype=_wide(w_VD), device=h_ND.device)
        out = torch.empty_like(log_sums)
        for part in _chunks(h_ND, w_VD):
            scores = _scores(h_ND[part], w_VD, scale, softcap)
            log_sums[part] = scores.logsumexp(-1)
            out[part] = scores.gather(1, targets_N[part, None])[:, 0] - log_sums[part]
        ctx.save_for_backward(h_ND, w_VD, targets_N, log_sums)
        ctx.scale, ctx.softcap = scale, softcap
        return out

    @staticmethod
    def backward(ctx: Any, grad_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None, None]:
        h_ND, w_VD, targets_N, log_sums = ctx.saved_tensors
        grad_h = torch.empty_like(h_ND)
        grad_w = torch.zeros_like(w_VD, dtype=_wide(w_VD)) if ctx.needs_input_grad[1] else None
        for part in _chunks(h_ND, w_VD):
            scores = _scores(h_ND[part], w_VD, ctx.scale, ctx.softcap)
            bent = None if ctx.softcap is None else 1 - (scores / ctx.softcap).square()
            # The gradient by a token's scores is one at the target, less the probabilities.
            grad = scores.sub_(log_sums[part, None]).exp_().mul_(-grad_N[part, None])
            grad.scatter_add_(1, targets_N[part, None], grad_N[part, None])
            if bent is not None:
                grad.mul_(bent)
            grad = grad.mul_(ctx.scale).to(w_VD.dtype)
            torch.mm(grad, w_VD, out=grad_h[part])
            if grad_w is not None:
                grad_w += grad.T @ h_ND[part]
        return grad_h, None if grad_w is None else grad_w.to(w_VD.dtype), None, None, None


def _wide(w_VD: torch.Tensor) -> torch.dtype:
    return torch.promote_types(w_VD.dtype, torch.float32)


def _chunks(h_ND: torch.Tensor, w_VD: torch.Tensor) -> list[slice]:
    rows = max(_LEAST_ROWS, _CHUNK_BYTES // (len(w_VD) * _wide(w_VD).itemsize))
    return [slice(start, start + rows) for start in range(0, len(h_ND), rows)]


def _scores(h_ND: torch.Tensor, w_VD: torch.Tensor, scale: float, softcap: float | None) -> torch.Tensor:
    """Scores over the vocabulary as `Decoder.logits` gives them, in float32 or wider."""
    scores = (h_ND @ w_VD.T).to(_wide(w_VD))
    if scale != 1:
        scores.mul_(scale)
    return scores if softcap is None else scores.div_(softcap).tanh_().mul_(softcap)


def token_log_probs(
    h_ND: torch.Tensor, w_VD: torch.Tensor, targets_N: torch.Tensor, scale: float = 1.0, softcap: float | None = None
) -> torch.Tensor:
    """The log-probability in nats of each target >= 0, and 0 where there is none, [tokens], float32 or wider.

    `h_ND` are hidden states and `w_VD` the head's weight, of one dtype. Scores are multiplied by `scale` and bent below
    `softcap`, as in `Decoder.logits`. On a CPU tokens without a target cost no product with the head; a GPU would be
    waited for to know them. A head that needs no gradient costs none.
    """
    if h_ND.device.type != "cpu":
        found = _TokenLogProbs.apply(h_ND, w_VD, targets_N.clamp(min=0), scale, softcap)
        return torch.where(targets_N >= 0, found, 0)
    if widens(h_ND):
        h_ND, w_VD = h_ND.float(), w_VD.float()
    kept = (targets_N >= 0).nonzero()[:, 0]
    found = _TokenLogProbs.apply(h_ND[kept], w_VD, targets_N[kept], scale, softcap)
    return torch.zeros(len(h_ND), dtype=found.dtype, device=h_ND.device).index_copy(0, kept, found)
