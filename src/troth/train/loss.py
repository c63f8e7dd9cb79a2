"""Next-token loss in chunks, so that the [tokens, vocabulary] scores never exist whole.

The gradient is formed chunk by chunk in the forward pass, while the scores are in cache (the idea of Cut
Cross-Entropy, Wijmans et al., 2411.09009, without its kernels).
"""

from typing import Any

import torch

_CHUNK = 512


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h_ND: torch.Tensor, w_VD: torch.Tensor, targets_N: torch.Tensor, z_loss: float, scale: float,
        softcap: float | None,
    ) -> torch.Tensor:  # fmt: skip
        wide = torch.promote_types(w_VD.dtype, torch.float32)
        count, rows = max(1, len(targets_N)), (min(_CHUNK, len(h_ND)), len(w_VD))
        loss = torch.zeros((), dtype=torch.float64, device=h_ND.device)
        grad_h, grad_w = torch.empty_like(h_ND), torch.zeros_like(w_VD, dtype=wide)
        # One buffer for all chunks: fresh memory costs more than the arithmetic on it. Without a narrower dtype to
        # cast to and from, scores and gradient are formed in place.
        scores, p = h_ND.new_empty(rows, dtype=wide), h_ND.new_empty(rows, dtype=wide)
        narrow = scores if h_ND.dtype == wide else h_ND.new_empty(rows)
        for start in range(0, len(h_ND), _CHUNK):
            h, target = h_ND[start : start + _CHUNK], targets_N[start : start + _CHUNK, None]
            grad, x, p_x = (buffer[: len(h)] for buffer in (narrow, scores, p))
            torch.mm(h, w_VD.T, out=grad)
            if narrow is not scores:
                x.copy_(grad)
            if scale != 1:
                x.mul_(scale)
            if softcap is not None:
                x.div_(softcap).tanh_().mul_(softcap)
            torch.softmax(x, -1, out=p_x)
            log_p = p_x.gather(1, target).clamp(min=torch.finfo(wide).tiny).log()
            log_sum = x.gather(1, target) - log_p
            loss += (z_loss * log_sum.square() - log_p).sum()
            if z_loss:
                p_x.mul_(1 + 2 * z_loss * log_sum)
            p_x.scatter_add_(1, target, torch.full_like(log_p, -1))
            if softcap is not None:
                p_x.mul_(x.div_(softcap).square_().neg_().add_(1))
            torch.div(p_x, count / scale, out=grad)
            torch.mm(grad, w_VD, out=grad_h[start : start + _CHUNK])
            if narrow is scores:
                grad_w.addmm_(grad.T, h)
            else:
                grad_w += grad.T @ h
        ctx.save_for_backward(grad_h, grad_w.to(w_VD.dtype))
        return (loss / count).to(wide)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None, None, None]:
        grad_h, grad_w = ctx.saved_tensors
        return grad_h * grad.to(grad_h.dtype), grad_w * grad.to(grad_w.dtype), None, None, None, None


def next_token_loss(
    h_ND: torch.Tensor, w_VD: torch.Tensor, targets_N: torch.Tensor, z_loss: float, scale: float = 1.0,
    softcap: float | None = None,
) -> torch.Tensor:  # fmt: skip
    """Mean cross-entropy in nats over targets >= 0, plus `z_loss` times the mean squared log-partition (PaLM).

    `h_ND` are hidden states and `w_VD` the head's weight, of one dtype; the result is float32 or wider. Scores are
    multiplied by `scale` and bent below `softcap`, as in `Decoder.logits`. Tokens that carry no loss cost no product
    with the head.
    """
    kept = (targets_N >= 0).nonzero()[:, 0]
    return _ChunkedLoss.apply(h_ND[kept], w_VD, targets_N[kept], z_loss, scale, softcap)
