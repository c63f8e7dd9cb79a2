"""Context parallelism: ranks have different times of the same sequences, and each gathers the keys and values of all
(Llama 3, 2407.21783, section 3.3.2).

A sequence is cut into twice as many pieces as there are ranks, and each rank has one from its beginning and one from
its end, so that all see about as many keys.
"""

import torch
import torch.distributed as dist

from troth.model.attention import Attend
from troth.model.scores import Scores
from troth.train.parallel.collectives import gather

_TIME = 2


def times_of(rank: int, ranks: int, time: int) -> torch.Tensor:
    """The times [time / ranks] of a rank."""
    if ranks == 1:
        return torch.arange(time)
    pieces = torch.arange(time).chunk(2 * ranks)
    return torch.cat((pieces[rank], pieces[2 * ranks - 1 - rank]))


class ContextParallel:
    """An `Attend` whose queries are this rank's, and whose keys and values come from all ranks of `group`."""

    keeps = False

    def __init__(self, attend: Attend, group: dist.ProcessGroup, time: int):
        self.attend, self.group = attend, group
        gathered_T = torch.cat([times_of(rank, group.size(), time) for rank in range(group.size())])
        self.order_T = gathered_T.argsort()

    def __call__(
        self, layer: int, q_BHTd: torch.Tensor, k_BKTd: torch.Tensor, v_BKTe: torch.Tensor, scores: Scores
    ) -> torch.Tensor:
        """`attend` with the keys and values of all times in their order."""
        order_T = self.order_T.to(k_BKTd.device)
        keys, values = (gather(x, _TIME, self.group).index_select(_TIME, order_T) for x in (k_BKTd, v_BKTe))
        return self.attend(layer, q_BHTd, keys, values, scores)
