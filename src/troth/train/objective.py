"""What a rank computes of a micro-batch: its part of the network and, behind the last layer, the loss."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import pad

from troth.model.attention import Attend, packed_attention
from troth.model.decoder import Call, Decoder
from troth.model.mtp import MTP
from troth.model.rope import Positions
from troth.system import TrainTable
from troth.train.log_probs import token_log_probs
from troth.train.loss import joining, next_token_loss, with_gradient_of
from troth.train.parallel.collectives import sum_over
from troth.train.parallel.context_parallel import ContextParallel, times_of
from troth.train.parallel.mesh import Mesh
from troth.train.preference import answer_log_probs, dpo_loss

_OF_PREFERENCES = "chosen_reward", "rejected_reward", "margin", "accuracy"
"""The implicit rewards of both answers, how far the chosen one is ahead and how often it is; means over the pairs."""


def figure_names(train: TrainTable) -> tuple[str, ...]:
    """What is reported of a step beside the loss: of preferences how answers compare, of multi-token prediction its own
    loss, the mean over the depths before it is weighed."""
    if train.objective == "preference":
        return _OF_PREFERENCES
    return ("mtp_loss",) if train.mtp_weight else ()


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

    Of preferences the sum is over pairs. Where ranks have some times of a row each, all know the whole answers, and
    each has its share of the loss. `figures` (see `figure_names`) are added up until someone takes them.

    Where it is not in training it returns the sums [batch] of this rank's targets' losses in nats, with nothing added
    to them, or the log-probabilities of all answers, [rows / 2, pairs, chosen and rejected].
    """

    def __init__(
        self, decoder: Decoder, call: Call, train: TrainTable, share: Share, mesh: Mesh | None, mtp: MTP | None = None
    ):
        super().__init__()
        self.decoder, self.call, self.share, self.mesh = decoder, call, share, mesh
        self.z_loss, self.preference = train.z_loss, train.preference
        known, device = len(figure_names(train)), share.tokens_S.device
        self.figures = torch.zeros(known, dtype=torch.float64, device=device)
        self.mtp, self.mtp_weight = mtp, 0.0
        self.count = 1

    def forward(
        self, inputs: torch.Tensor, documents_BT: torch.Tensor, targets_BS: torch.Tensor,
        ahead_BKS: torch.Tensor | None = None, targets_BKS: torch.Tensor | None = None,
        reference_RP2: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """`documents_BT` are of all times, the others of this rank's; `ahead_BKS` and `targets_BKS` are what
        `look_ahead` returns. With `reference_RP2`, not a number where there is no pair, rows are of preferences."""
        config, queries_Q = self.decoder.config, self.share.queries_Q
        attend: Attend = packed_attention(config, documents_BT, queries_Q)
        if self.mesh is not None and self.mesh.layout.cp > 1:
            attend = ContextParallel(attend, self.mesh.group("cp"), documents_BT.shape[1])
        h_BSD = self.decoder(inputs, attend, queries_Q.expand(len(inputs), -1), call=self.call)
        if not self.decoder.last:
            return h_BSD
        if reference_RP2 is not None:
            answers_RP2 = self._answers(h_BSD, documents_BT[:, self.share.tokens_S], targets_BS, reference_RP2.shape[1])
            return self._preferred(answers_RP2, reference_RP2) if self.training else answers_RP2
        if not self.training:
            return -self._log_probs(h_BSD, targets_BS).sum(1)
        head_VD = self.decoder.lm_head.weight
        if self.mtp is not None:
            head_VD = joining(head_VD, h_BSD)
        loss = self._loss(h_BSD, head_VD, targets_BS, self.z_loss)
        if self.mtp is not None:
            assert ahead_BKS is not None
            assert targets_BKS is not None
            positions = Positions.of(queries_Q.expand(len(inputs), -1), config)
            # As the decoder's own embedding but for its scale, which the norm behind it takes away.
            embedded_BKSD = joining(self.call(self.decoder.embed_tokens, ahead_BKS), h_BSD)
            depths = self.mtp(h_BSD, embedded_BKSD, positions, attend, self.call)
            losses = [
                self._loss(h, head_VD, targets, 0.0) for h, targets in zip(depths, targets_BKS.unbind(1), strict=True)
            ]
            mtp_loss = torch.stack(losses).mean()
            self.figures += mtp_loss.detach()
            loss = with_gradient_of(loss, self.mtp_weight * mtp_loss)
        return loss.expand(1).clone()

    def _answers(
        self, h_BSD: torch.Tensor, documents_BS: torch.Tensor, targets_BS: torch.Tensor, most: int
    ) -> torch.Tensor:
        """Log-probabilities of whole answers, [rows / 2, `most`, chosen and rejected]."""
        answers_RP2 = answer_log_probs(self._log_probs(h_BSD, targets_BS), documents_BS, most)
        return answers_RP2 if self.mesh is None else sum_over(answers_RP2, self.mesh.times)

    def _log_probs(self, h_BSD: torch.Tensor, targets_BS: torch.Tensor) -> torch.Tensor:
        """Those of the targets, [batch, times]; 0 where there is none."""
        config, head = self.decoder.config, self.decoder.lm_head.weight.to(h_BSD.dtype)
        tokens_N = token_log_probs(
            h_BSD.flatten(0, 1), head, targets_BS.flatten(), config.logit_scale, config.logit_softcap
        )  # fmt: skip
        return tokens_N.view_as(targets_BS)

    def _preferred(self, answers_RP2: torch.Tensor, reference_RP2: torch.Tensor) -> torch.Tensor:
        pairs_RP = ~reference_RP2[..., 0].isnan()
        reference_RP2 = reference_RP2.nan_to_num().to(answers_RP2.dtype)
        loss_RP, rewards_RP2 = dpo_loss(
            answers_RP2, reference_RP2, self.preference.beta, self.preference.label_smoothing
        )  # fmt: skip
        margin_RP = rewards_RP2[..., 0] - rewards_RP2[..., 1]
        found_RPF = torch.stack((*rewards_RP2.unbind(-1), margin_RP, margin_RP > 0), -1) * pairs_RP[..., None]
        times_ranks = 1 if self.mesh is None else self.mesh.layout.cp * self.mesh.layout.tp
        self.figures += found_RPF.double().sum((0, 1)) / (self.count * times_ranks)
        return (loss_RP * pairs_RP).sum().expand(1) / (self.count * times_ranks)

    def _loss(
        self, h_BSD: torch.Tensor, head_VD: torch.Tensor, targets_BS: torch.Tensor, z_loss: float
    ) -> torch.Tensor:
        config = self.decoder.config
        return next_token_loss(
            h_BSD.flatten(0, 1), head_VD.to(h_BSD.dtype), targets_BS.flatten(), z_loss, config.logit_scale,
            config.logit_softcap, self.count,
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
