"""What a rank computes of a micro-batch: its part of the network and, behind the last layer, the loss."""

from dataclasses import dataclass

import torch
from torch import nn

from troth.model.attention import Attend, packed_attention
from troth.model.decoder import Call, Decoder
from troth.train.loss import next_token_loss
from troth.train.parallel.context_parallel import ContextParallel, times_of
from troth.train.parallel.mesh import Mesh


@dataclass(frozen=True)
class Share:
    """The times of every sequence that a rank has: `queries_Q` in attention, `tokens_S` of these elsewhere."""

    queries_Q: torch.Tensor
    tokens_S: torch.Tensor

    @classmethod
    def of(cls, mesh: Mesh | None, time: int, device: str) -> "Share":
        """All times where there is no mesh."""
        if mesh is None:
            everything = torch.arange(time, device=device)
            return cls(everything, everything)
        queries_Q = times_of(mesh.rank("cp"), mesh.layout.cp, time).to(device)
        return cls(queries_Q, queries_Q.chunk(mesh.layout.tp)[mesh.rank("tp")])


class Objective(nn.Module):
    """[batch, times of this rank] tokens, or what the part before it returned, to hidden states, or to the loss.

    The loss [1] is a sum over this rank's targets divided by `count`, the number of targets of the whole batch.
    """

    def __init__(self, decoder: Decoder, call: Call, z_loss: float, share: Share, mesh: Mesh | None):
        super().__init__()
        self.decoder, self.call, self.z_loss, self.share, self.mesh = decoder, call, z_loss, share, mesh
        self.count = 1

    def forward(self, inputs: torch.Tensor, documents_BT: torch.Tensor, targets_BS: torch.Tensor) -> torch.Tensor:
        """`documents_BT` are of all times, the other two of this rank's."""
        config, queries_Q = self.decoder.config, self.share.queries_Q
        attend: Attend = packed_attention(config, documents_BT, queries_Q)
        if self.mesh is not None and self.mesh.layout.cp > 1:
            attend = ContextParallel(attend, self.mesh.group("cp"), documents_BT.shape[1])
        h_BSD = self.decoder(inputs, attend, queries_Q.expand(len(inputs), -1), call=self.call)
        if not self.decoder.last:
            return h_BSD
        head = self.decoder.lm_head.weight.to(h_BSD.dtype)
        loss = next_token_loss(
            h_BSD.flatten(0, 1), head, targets_BS.flatten(), self.z_loss, config.logit_scale, config.logit_softcap,
            self.count,
        )  # fmt: skip
        return loss.expand(1).clone()
