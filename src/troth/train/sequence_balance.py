"""The sequence-wise balance loss (DeepSeek-V3, 2412.19437, equations 17 to 20): a small push of the router against
sequences all of whose tokens want the same experts, which the bias, that sees whole batches, does not notice."""

import torch
import torch.distributed as dist

from troth.train.loss import with_gradient_of
from troth.train.objective import Share
from troth.train.parallel.mesh import Mesh


class SequenceBalance:
    """Set as a router's `attach`, it gives the scores the gradient of `weight` times the loss of the rows they are of,
    the mean over the `sequences` rows of the whole batch. The loss itself is not reported.

    Where ranks have some times of a row each, they count together how often its experts are wanted.
    """

    def __init__(self, weight: float, chosen: int, time: int, share: Share, mesh: Mesh | None):
        """`chosen` are the experts of a token, `time` the tokens of a row."""
        self.weight, self.chosen, self.time, self.here = weight, chosen, time, len(share.tokens_S)
        self.groups = [] if mesh is None else mesh.times
        self.sequences = 1

    def __call__(self, scores_NE: torch.Tensor) -> torch.Tensor:
        """The scores, in the order of rows and times."""
        scores_BSE = scores_NE.unflatten(0, (-1, self.here))
        wanted_BM = scores_BSE.detach().topk(self.chosen, dim=-1).indices.flatten(1)
        counts_BE = scores_NE.new_zeros(len(scores_BSE), scores_NE.shape[1])
        counts_BE.scatter_add_(1, wanted_BM, torch.ones_like(wanted_BM, dtype=counts_BE.dtype))
        for group in self.groups:
            dist.all_reduce(counts_BE, group=group)
        f_BE = counts_BE * (counts_BE.shape[1] / (self.chosen * self.time))
        # The probabilities enter as sums: those of other ranks' times are added with their gradients.
        p_BE = (scores_BSE / scores_BSE.sum(-1, keepdim=True)).sum(1) / self.time
        return with_gradient_of(scores_NE, self.weight / self.sequences * (f_BE * p_BE).sum())
