"""The mixture-of-experts feed-forward: router, shared experts, stacked routed experts.

With sigmoid scores, routing follows DeepSeek-V3 (2412.19437, section 2.1.2): the top k of score + bias are chosen,
their gates are the scores renormalised, and the bias moves against the load after each step, so that no auxiliary loss
is needed. With softmax scores the top k are chosen as they are (Mixtral, 2401.04088, section 2.1).
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import grouped_mm, silu

from troth.model.config import ModelConfig


class FeedForward(nn.Module):
    """The gated unit down(silu(gate(x)) * up(x)) (Shazeer, 2002.05202); dense layers and shared experts."""

    def __init__(self, hidden_size: int, intermediate_size: int):
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class Router(nn.Module):
    """Chooses k experts for each token and the gates to weigh them with."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.route_scale = config.route_scale
        self.softmax, self.renormalise = config.router_score == "softmax", config.norm_topk_prob
        self.gate = nn.Linear(config.hidden_size, config.num_experts, bias=False)

    def forward(self, x_ND: torch.Tensor, bias_E: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return gates [tokens, k] in float32 (or wider) and the chosen experts [tokens, k]."""
        logits_NE = self.gate(x_ND)
        logits_NE = logits_NE.to(torch.promote_types(logits_NE.dtype, torch.float32))
        scores_NE = torch.softmax(logits_NE, -1) if self.softmax else torch.sigmoid(logits_NE)
        chosen_Nk = torch.topk(scores_NE.detach() + bias_E, self.top_k, dim=-1).indices
        gates_Nk = scores_NE.gather(1, chosen_Nk)
        if self.renormalise:
            gates_Nk = gates_Nk / (gates_Nk.sum(-1, keepdim=True) + 1e-20)
        return gates_Nk * self.route_scale, chosen_Nk


class Experts(nn.Module):
    """All routed experts of a layer in two stacked weights, [experts, out, in]."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        shape = config.num_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(shape[0], 2 * shape[2], shape[1]))
        self.down_proj = nn.Parameter(torch.empty(*shape))

    def forward(self, x_ND: torch.Tensor, gates_Nk: torch.Tensor, chosen_Nk: torch.Tensor) -> torch.Tensor:
        """Each token's gate-weighted sum over its experts, [tokens, hidden]."""
        experts, top_k = self.gate_up_proj.shape[0], chosen_Nk.shape[1]
        order = chosen_Nk.flatten().argsort(stable=True)
        token_M = order // top_k
        ends_E = torch.bincount(chosen_Nk.flatten(), minlength=experts).cumsum(0)
        # Not x_ND[token_M], whose gradient is summed in an order that changes from run to run.
        hidden = self._product(x_ND.index_select(0, token_M), self.gate_up_proj, ends_E)
        gate, up = hidden.chunk(2, dim=-1)
        out_MD = self._product(silu(gate) * up, self.down_proj, ends_E)
        out_MD = out_MD * gates_Nk.flatten()[order, None].to(out_MD.dtype)
        return torch.zeros_like(x_ND).index_add_(0, token_M, out_MD)

    @staticmethod
    def _product(x_MI: torch.Tensor, w_EOI: torch.Tensor, ends_E: torch.Tensor) -> torch.Tensor:
        """Rows up to `ends_E[e]` belong to expert e. float64, which grouped_mm refuses, takes the plain loop."""
        if x_MI.dtype == torch.float64:
            rows = x_MI.tensor_split(ends_E[:-1].tolist())
            return torch.cat([row @ weight.T for row, weight in zip(rows, w_EOI, strict=True)])
        return grouped_mm(x_MI, w_EOI.transpose(1, 2), offs=ends_E.int())


class MoE(nn.Module):
    """Shared experts, if any, which see every token, plus the routed ones.

    `expert_bias` steers selection only and is moved by `balance`, where scores are sigmoids; `load_E` counts the tokens
    that each expert got since it was last reset, and `observe`, when set, is called with (gates_Nk, chosen_Nk) of every
    forward pass.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.router = Router(config)
        shared = config.moe_intermediate_size * config.num_shared_experts
        self.shared_experts = FeedForward(config.hidden_size, shared) if shared else None
        self.experts = Experts(config)
        self.steered = config.router_score == "sigmoid"
        self.register_buffer("expert_bias", torch.zeros(config.num_experts), persistent=self.steered)
        self.register_buffer("load_E", torch.zeros(config.num_experts), persistent=False)
        self.expert_bias: torch.Tensor
        self.load_E: torch.Tensor
        self.observe: Callable[[torch.Tensor, torch.Tensor], None] | None = None

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        x_ND = x_BTD.flatten(0, -2)
        gates_Nk, chosen_Nk = self.router(x_ND, self.expert_bias)
        if self.training:
            self.load_E += torch.bincount(chosen_Nk.flatten(), minlength=len(self.load_E))
        if self.observe is not None:
            self.observe(gates_Nk, chosen_Nk)
        routed_BTD = self.experts(x_ND, gates_Nk, chosen_Nk).view_as(x_BTD)
        return routed_BTD if self.shared_experts is None else self.shared_experts(x_BTD) + routed_BTD

    @torch.no_grad()
    def balance(self, rate: float) -> torch.Tensor:
        """Move the bias by `rate` towards even load, centre it, and return each expert's share of the load."""
        share_E = self.load_E / self.load_E.sum().clamp(min=1)
        if self.steered:
            self.expert_bias += rate * torch.sign(share_E.mean() - share_E)
            self.expert_bias -= self.expert_bias.mean()
        self.load_E.zero_()
        return share_E
