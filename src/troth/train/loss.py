"""Next-token loss in chunks, so that the [tokens, vocabulary] scores never exist whole.

The gradient is formed chunk by chunk in the forward pass, from the probabilities that the loss needs anyway (the idea
of Cut Cross-Entropy, Wijmans et al., 2411.09009, without its kernels).
"""

from typing import Any

import torch

from troth.model.products import widens

_CHUNK_BYTES = 2**26
_LEAST_ROWS = 128
"""A chunk's scores take so many bytes, unless that were fewer tokens than make an efficient product."""


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h_ND: torch.Tensor, w_VD: torch.Tensor, targets_N: torch.Tensor, z_loss: float, scale: float,
        softcap: float | None, count: int | torch.Tensor, kept_N: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        wide = torch.promote_types(w_VD.dtype, torch.float32)
        tokens, vocabulary = len(h_ND), len(w_VD)
        rows = min(tokens, max(_LEAST_ROWS, _CHUNK_BYTES // (vocabulary * h_ND.itemsize)))
        loss = torch.zeros((), dtype=torch.float64, device=h_ND.device)
        grad_h = torch.empty_like(h_ND)
        # A frozen head, as adapters leave it, costs none.
        learns, grad_w = ctx.needs_input_grad[1], None
        # One buffer for all chunks: fresh memory costs more than the arithmetic on it.
        scores, probabilities = h_ND.new_empty(rows, vocabulary), h_ND.new_empty(rows, vocabulary)
        for start in range(0, tokens, max(1, rows)):
            h, target = h_ND[start : start + rows], targets_N[start : start + rows]
            x, p = scores[: len(h)], probabilities[: len(h)]
            at = torch.arange(len(h), device=h.device), target
            torch.mm(h, w_VD.T, out=x)
            if scale != 1:
                x.mul_(scale)
            if softcap is not None:
                x.div_(softcap).tanh_().mul_(softcap)
            torch.softmax(x, -1, out=p)
            # In a narrow dtype, what is close to one is known best by what the others leave.
            p_target = p[at].to(wide)
            p[at] = 0
            others = p.sum(-1).to(wide)
            p_target = torch.where(p_target < 0.5, p_target, 1 - others)
            log_p = p_target.clamp(min=torch.finfo(wide).tiny).log()
            log_sum = x[at].to(wide) - log_p
            of_token = z_loss * log_sum.square() - log_p
            kept = None if kept_N is None else kept_N[start : start + rows]
            loss += (of_token if kept is None else of_token * kept).sum()
            # The gradient: p - 1 at the target and p elsewhere, of which the sum is zero; z_loss multiplies all p.
            of_target = -others
            if z_loss:
                weight = 1 + 2 * z_loss * log_sum
                p.mul_(weight[:, None].to(p.dtype))
                of_target = weight * p_target - 1
            p[at] = of_target.to(p.dtype)
            if kept is not None:
                p.mul_(kept[:, None])
            if softcap is not None:
                p.mul_(x.div_(softcap).square_().neg_().add_(1))
            torch.mm(p, w_VD, out=grad_h[start : start + rows])
            if not learns:
                continue
            if grad_w is None:
                grad_w = (p.T @ h).to(wide)
            elif p.dtype == wide:
                grad_w.addmm_(p.T, h)
            else:
                grad_w += p.T @ h
        grad_h.mul_(scale / count)
        if learns:
            # Without any target there was no chunk.
            grad_w = torch.zeros_like(w_VD) if grad_w is None else grad_w.mul_(scale / count).to(w_VD.dtype)
        ctx.save_for_backward(grad_h, grad_w)
        return (loss / count).to(wide)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_h, grad_w = ctx.saved_tensors
        of_head = None if grad_w is None else grad_w * grad.to(grad_w.dtype)
        return grad_h * grad.to(grad_h.dtype), of_head, None, None, None, None, None, None


class _WithGradientOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return grad, grad.new_ones(())


def with_gradient_of(x: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
    """`x`, whose backward pass is also that of `loss`, a scalar of its dtype: a loss that is learned from as it is and
    not added to what is reported."""
    out: torch.Tensor = _WithGradientOf.apply(x, loss)
    return out


class _Joining(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad, None


def joining(x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """`x`, whose backward pass stands on the way to that of `h`, which it gives nothing.

    Where a pipeline's schedule halves backward passes, torch 2.13 keeps for the second half what reaches a weight from
    the way to the stage's inputs. Of an embedding that several parts of that way use it would do so more than once.
    """
    out: torch.Tensor = _Joining.apply(x, h)
    return out


def next_token_loss(
    h_ND: torch.Tensor, w_VD: torch.Tensor, targets_N: torch.Tensor, z_loss: float, scale: float = 1.0,
    softcap: float | None = None, count: int | None = None,
) -> torch.Tensor:  # fmt: skip
    """Mean cross-entropy in nats over targets >= 0, plus `z_loss` times the mean squared log-partition (PaLM).

    With `count` the sums are divided by it instead: these are then some of the targets of a larger batch.

    `h_ND` are hidden states and `w_VD` the head's weight, of one dtype; the result is float32 or wider. Scores are
    multiplied by `scale` and bent below `softcap`, as in `Decoder.logits`. On a CPU tokens that carry no loss cost no
    product with the head; a GPU would be waited for to know which these are.
    """
    kept_N: torch.Tensor | None
    some: int | torch.Tensor
    if h_ND.device.type == "cpu":
        kept = (targets_N >= 0).nonzero()[:, 0]
        h_ND, targets_N, kept_N, some = h_ND[kept], targets_N[kept], None, max(1, len(kept))
    else:
        targets_N, kept_N = targets_N.clamp(min=0), targets_N >= 0
        some = kept_N.sum().clamp(min=1).double()
    if widens(h_ND):
        h_ND, w_VD = h_ND.float(), w_VD.float()
    return _ChunkedLoss.apply(h_ND, w_VD, targets_N, z_loss, scale, softcap, some if count is None else count, kept_N)
