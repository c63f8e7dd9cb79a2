"""The mixture-of-experts feed-forward: router, shared experts, stacked routed experts.

With sigmoid scores, routing follows DeepSeek-V3 (2412.19437, section 2.1.2): the top k of score + bias are chosen,
their gates are the scores renormalised, and the bias moves against the load after each step, so that no auxiliary loss
is needed. With softmax scores the top k are chosen as they are (Mixtral, 2401.04088, section 2.1).
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import grouped_mm

from troth.model.activation import gated, gated_expert
from troth.model.config import ModelConfig


class FeedForward(nn.Module):
    """The gated unit down(act(gate(x)) * up(x)); dense layers and shared experts."""

    def __init__(self, config: ModelConfig, intermediate_size: int):
        super().__init__()
        self.config = config
        self.gate_proj = nn.Linear(config.hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(gated(self.gate_proj(x), self.up_proj(x), self.config))


class Router(nn.Module):
    """Chooses k experts for each token and the gates to weigh them with."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.gate = nn.Linear(config.hidden_size, config.num_experts, bias=config.biases)

    def forward(self, x_ND: torch.Tensor, bias_E: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return gates [tokens, k] in float32 (or wider) and the chosen experts [tokens, k]."""
        config = self.config
        logits_NE = self.gate(x_ND)
        logits_NE = logits_NE.to(torch.promote_types(logits_NE.dtype, torch.float32))
        if config.router_softcap is not None:
            logits_NE = config.router_softcap * torch.tanh(logits_NE / config.router_softcap)
        scores_NE = torch.softmax(logits_NE, -1) if config.router_score == "softmax" else torch.sigmoid(logits_NE)
        preferred_NE = scores_NE.detach() + bias_E
        if config.num_expert_groups > 1:
            preferred_NE = self._within_best_groups(preferred_NE)
        chosen_Nk = torch.topk(preferred_NE, config.num_experts_per_tok, dim=-1).indices
        gates_Nk = scores_NE.gather(1, chosen_Nk)
        if config.norm_topk_prob:
            gates_Nk = gates_Nk / (gates_Nk.sum(-1, keepdim=True) + 1e-20)
        return gates_Nk * config.route_scale, chosen_Nk

    def _within_best_groups(self, preferred_NE: torch.Tensor) -> torch.Tensor:
        """Rule out experts beyond the `topk_groups` groups whose two best add up to most."""
        preferred_NGe = preferred_NE.unflatten(-1, (self.config.num_expert_groups, -1))
        best_NG = preferred_NGe.topk(min(2, preferred_NGe.shape[-1]), dim=-1).values.sum(-1)
        groups_Ng = best_NG.topk(self.config.topk_groups, dim=-1).indices
        out_NG = torch.ones_like(best_NG, dtype=torch.bool).scatter(-1, groups_Ng, False)
        return preferred_NGe.masked_fill(out_NG[..., None], float("-inf")).flatten(-2)


class Experts(nn.Module):
    """All routed experts of a layer in two stacked weights, [experts, out, in], and by configuration their biases."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        experts, hidden, size = config.num_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * size, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, size))
        self.gate_up_bias = nn.Parameter(torch.empty(experts, 2 * size)) if config.biases else None
        self.down_bias = nn.Parameter(torch.empty(experts, hidden)) if config.biases else None

    def forward(self, x_ND: torch.Tensor, gates_Nk: torch.Tensor, chosen_Nk: torch.Tensor) -> torch.Tensor:
        """Each token's gate-weighted sum over its experts, [tokens, hidden]."""
        top_k = chosen_Nk.shape[1]
        order = chosen_Nk.flatten().argsort(stable=True)
        token_M = order // top_k
        counts_E = torch.bincount(chosen_Nk.flatten(), minlength=len(self.down_proj))
        # Not x_ND[token_M], whose gradient is summed in an order that changes from run to run.
        hidden = self._product(x_ND.index_select(0, token_M), self.gate_up_proj, self.gate_up_bias, counts_E)
        gate, up = hidden.chunk(2, dim=-1)
        out_MD = self._product(gated_expert(gate, up, self.config), self.down_proj, self.down_bias, counts_E)
        out_MD = out_MD * gates_Nk.flatten()[order, None].to(out_MD.dtype)
        return torch.zeros_like(x_ND).index_add_(0, token_M, out_MD)

    @staticmethod
    def _product(
        x_MI: torch.Tensor, w_EOI: torch.Tensor, bias_EO: torch.Tensor | None, counts_E: torch.Tensor
    ) -> torch.Tensor:
        """Rows belong to the experts in order, `counts_E` to each. float64, which grouped_mm refuses, takes a loop."""
        if x_MI.dtype == torch.float64:
            rows = x_MI.split(counts_E.tolist())
            y_MO = torch.cat([row @ weight.T for row, weight in zip(rows, w_EOI, strict=True)])
        else:
            y_MO = grouped_mm(x_MI, w_EOI.transpose(1, 2), offs=counts_E.cumsum(0).int())
        if bias_EO is None:
            return y_MO
        return y_MO + bias_EO.repeat_interleave(counts_E, dim=0, output_size=len(y_MO))


class MoE(nn.Module):
    """Shared experts, if any, which see every token, plus the routed ones.

    `expert_bias` steers selection only and is moved by `balance`, where scores are sigmoids; `load_E` counts the tokens
    that each expert got since it was last reset, and `observe`, when set, is called with (gates_Nk, chosen_Nk) of every
    forward pass. Neither happens while `repeating`: the layer is then computed again for its gradient.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.router = Router(config)
        shared = config.moe_intermediate_size * config.num_shared_experts
        self.shared_experts = FeedForward(config, shared) if shared else None
        self.experts = Experts(config)
        self.scale = config.feed_forward_scale
        self.steered = config.router_score == "sigmoid"
        self.register_buffer("expert_bias", torch.zeros(config.num_experts), persistent=self.steered)
        self.register_buffer("load_E", torch.zeros(config.num_experts), persistent=False)
        self.expert_bias: torch.Tensor
        self.load_E: torch.Tensor
        self.repeating = False
        self.observe: Callable[[torch.Tensor, torch.Tensor], None] | None = None

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        x_ND = x_BTD.flatten(0, -2)
        gates_Nk, chosen_Nk = self.router(x_ND, self.expert_bias)
        if self.training and not self.repeating:
            self.load_E += torch.bincount(chosen_Nk.flatten(), minlength=len(self.load_E))
        if self.observe is not None and not self.repeating:
            self.observe(gates_Nk, chosen_Nk)
        out_BTD = self.experts(x_ND, gates_Nk, chosen_Nk).view_as(x_BTD)
        if self.shared_experts is not None:
            out_BTD = self.shared_experts(x_BTD) + out_BTD
        return out_BTD if self.scale == 1 else out_BTD * self.scale

    @torch.no_grad()
    def balance(self, rate: float) -> torch.Tensor:
        """Move the bias by `rate` towards even load, centre it, and return each expert's share of the load."""
        share_E = self.load_E / self.load_E.sum().clamp(min=1)
        if self.steered:
            self.expert_bias += rate * torch.sign(share_E.mean() - share_E)
            self.expert_bias -= self.expert_bias.mean()
        self.load_E.zero_()
        return share_E
