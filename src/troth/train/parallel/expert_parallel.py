"""Expert parallelism (GShard: Lepikhin et al., 2006.16668): ranks hold some experts each, and tokens travel to them and
back. Where experts are themselves parted (etp), a token travels to every part, and the parts' results are summed."""

import torch
from torch import nn
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import Placement

from troth.model.experts import Experts
from troth.train.parallel.collectives import exchange, exchanged
from troth.train.parallel.mesh import Mesh

SIZE = 2
"""The dimension of experts' weights that is their inner size."""
_PARTED = {
    "gate_up_proj": SIZE, "gate_up_bias": SIZE, "down_proj": SIZE, "lora_B_gate_up": SIZE, "lora_A_down": SIZE + 1,
}  # fmt: skip
"""That dimension of what etp parts; the bias behind and other adapters all parts have whole, and `sums` adds their
gradients up."""


def share_out(experts: Experts, mesh: Mesh) -> None:
    """Spread experts over the ranks of `ep`, and each over those of `etp`, and let tokens travel."""
    places: list[Placement]
    for name, weight in list(experts.named_parameters(recurse=False)):
        if mesh.layout.etp > 1:
            over = mesh.sparse["ep", "etp"]
            places = [Shard(0), Shard(_PARTED[name]) if name in _PARTED else Replicate()]
        else:
            over, places = mesh.sparse["ep"], [Shard(0)]
        part = distribute_tensor(weight.detach(), over, places, src_data_rank=None)
        setattr(experts, name, nn.Parameter(part, requires_grad=weight.requires_grad))
    experts.transport, experts.inner_parts = AllToAll(mesh), mesh.layout.etp


class AllToAll:
    """A `Transport` by two exchanges between the ranks that hold the experts, and one of the counts before them."""

    def __init__(self, mesh: Mesh):
        self.group = mesh.expert_ranks
        self.ep, self.etp = mesh.layout.ep, mesh.layout.etp

    def __call__(self, x_MD: torch.Tensor, counts_E: torch.Tensor, experts: Experts) -> torch.Tensor:
        """Rows in the order of their experts, there and back."""
        ranks = self.ep * self.etp
        sent_RE = counts_E.view(self.ep, -1).repeat_interleave(self.etp, 0)
        ones = [1] * ranks
        got_RE = exchanged(sent_RE, ones, ones, self.group)
        send, receive = self.rows(x_MD, sent_RE, got_RE)
        there_LD = exchange(self._to_each_part(x_MD, send), receive, send, self.group)
        # Rows come rank by rank; their experts want them expert by expert.
        expert_RE = torch.arange(got_RE.shape[1], device=x_MD.device).repeat(ranks)
        order_L = expert_RE.repeat_interleave(got_RE.flatten(), output_size=len(there_LD)).argsort(stable=True)
        out_LD = experts.apply_to(there_LD.index_select(0, order_L), got_RE.sum(0))
        place_L = torch.empty_like(order_L).scatter_(0, order_L, torch.arange(len(order_L), device=x_MD.device))
        back_LD = exchange(out_LD.index_select(0, place_L), send, receive, self.group)
        return self._sum_of_parts(back_LD, send)

    def rows(
        self, x_MD: torch.Tensor, sent_RE: torch.Tensor, got_RE: torch.Tensor
    ) -> tuple[list[int], list[int]]:
        """How many of the rows go to each rank, once to each part of an expert, and how many come from each.

        The only wait for the device: the host must know.
        """
        send, receive = torch.stack((sent_RE.sum(1), got_RE.sum(1))).tolist()
        return send, receive

    def _to_each_part(self, x_MD: torch.Tensor, send: list[int]) -> torch.Tensor:
        if self.etp == 1:
            return x_MD
        blocks = x_MD.split(send[:: self.etp])
        return torch.cat([block for block in blocks for _ in range(self.etp)])

    def _sum_of_parts(self, x_LD: torch.Tensor, send: list[int]) -> torch.Tensor:
        if self.etp == 1:
            return x_LD
        blocks = x_LD.split([count * self.etp for count in send[:: self.etp]])
        return torch.cat([block.unflatten(0, (self.etp, -1)).sum(0) for block in blocks])
