"""What a rank computes of a micro-batch: its part of the network and, behind the last layer, the loss."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import pad

from troth.model.attention import Attend, packed_attention
from troth.model.decoder import Call, Decoder
from troth.model.mtp import MTP
from troth.model.rope import Positions
from troth.train.loss import next_token_loss, with_gradient_of
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

    The loss [1] is a sum over this rank's targets divided by `count`, the number of targets of the whole batch. With
    `mtp` its gradient is also that of multi-token prediction, `mtp_weight` times the mean over the depths.
    """

    def __init__(
        self, decoder: Decoder, call: Call, z_loss: float, share: Share, mesh: Mesh | None, mtp: MTP | None = None
    ):
        super().__init__()
        self.decoder, self.call, self.z_loss, self.share, self.mesh = decoder, call, z_loss, share, mesh
        self.mtp, self.mtp_weight = mtp, 0.0
        self.count = 1

    def forward(
        self, inputs: torch.Tensor, documents_BT: torch.Tensor, targets_BS: torch.Tensor,
        ahead_BKS: torch.Tensor | None = None, targets_BKS: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """`documents_BT` are of all times, the others of this rank's; the last two are what `look_ahead` returns."""
        config, queries_Q = self.decoder.config, self.share.queries_Q
        attend: Attend = packed_attention(config, documents_BT, queries_Q)
        if self.mesh is not None and self.mesh.layout.cp > 1:
            attend = ContextParallel(attend, self.mesh.group("cp"), documents_BT.shape[1])
        h_BSD = self.decoder(inputs, attend, queries_Q.expand(len(inputs), -1), call=self.call)
        if not self.decoder.last:
            return h_BSD
        loss = self._loss(h_BSD, targets_BS, self.z_loss)
        if self.mtp is not None:
            assert ahead_BKS is not None
            assert targets_BKS is not None
            positions = Positions.of(queries_Q.expand(len(inputs), -1), config)
            # As the decoder's own embedding but for its scale, which the norm behind it takes away.
            embedded_BKSD = self.call(self.decoder.embed_tokens, ahead_BKS)
            depths = self.mtp(h_BSD, embedded_BKSD, positions, attend, self.call)
            losses = [self._loss(h, targets, 0.0) for h, targets in zip(depths, targets_BKS.unbind(1), strict=True)]
            loss = with_gradient_of(loss, self.mtp_weight * torch.stack(losses).mean())
        return loss.expand(1).clone()

    def _loss(self, h_BSD: torch.Tensor, targets_BS: torch.Tensor, z_loss: float) -> torch.Tensor:
        config, head = self.decoder.config, self.decoder.lm_head.weight.to(h_BSD.dtype)
        return next_token_loss(
            h_BSD.flatten(0, 1), head, targets_BS.flatten(), z_loss, config.logit_scale, config.logit_softcap,
            self.count,
        )  # fmt: skip


def look_ahead(
    tokens_RT: torch.Tensor, documents_RT: torch.Tensor, targets_RT: torch.Tensor, depth: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What multi-token prediction is told and asked at each time and depth k, [rows, depths, time] each: the token k
    further on, and the one behind that, which is no target where it is of another document or beyond the row."""

    def moved(x_RT: torch.Tensor, by: int, beyond: int) -> torch.Tensor:
        return pad(x_RT, (0, by), value=beyond)[:, by:]

    ahead, targets = [], []
    for k in range(1, depth + 1):
        same = moved(documents_RT, k, -1) == documents_RT
        ahead.append(moved(tokens_RT, k, 0))
        targets.append(torch.where(same, moved(targets_RT, k, -100), -100))
    return torch.stack(ahead, 1), torch.stack(targets, 1)
