"""The mixture-of-experts feed-forward: router, shared experts, stacked routed experts.

With sigmoid scores, routing follows DeepSeek-V3 (2412.19437, section 2.1.2): the top k of score + bias are chosen,
their gates are the scores renormalised, and the bias moves against the load after each step, so that no auxiliary loss
is needed. With softmax scores the top k are chosen as they are (Mixtral, 2401.04088, section 2.1).
"""

from collections.abc import Callable

import torch
from torch import nn

from troth.model.activation import gated
from troth.model.config import ModelConfig
from troth.model.experts import Experts, count_choices
from troth.model.products import Linear


class FeedForward(nn.Module):
    """The gated unit down(act(gate(x)) * up(x)); dense layers and shared experts."""

    def __init__(self, config: ModelConfig, intermediate_size: int):
        super().__init__()
        self.config = config
        self.gate_proj = Linear(config.hidden_size, intermediate_size, bias=False)
        self.up_proj = Linear(config.hidden_size, intermediate_size, bias=False)
        self.down_proj = Linear(intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(gated(self.gate_proj(x), self.up_proj(x), self.config))


class Router(nn.Module):
    """Chooses k experts for each token and the gates to weigh them with.

    In training `attach`, when set, is given the scores [tokens, experts] and returns them, perhaps with the gradient
    of a loss of theirs.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.gate = Linear(config.hidden_size, config.num_experts, bias=config.biases)
        self.attach: Callable[[torch.Tensor], torch.Tensor] | None = None

    def forward(self, x_ND: torch.Tensor, bias_E: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return gates [tokens, k] in float32 (or wider) and the chosen experts [tokens, k]."""
        config = self.config
        logits_NE = self.gate(x_ND)
        logits_NE = logits_NE.to(torch.promote_types(logits_NE.dtype, torch.float32))
        if config.router_softcap is not None:
            logits_NE = config.router_softcap * torch.tanh(logits_NE / config.router_softcap)
        scores_NE = torch.softmax(logits_NE, -1) if config.router_score == "softmax" else torch.sigmoid(logits_NE)
        if self.training and self.attach is not None:
            scores_NE = self.attach(scores_NE)
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
            self.load_E += count_choices(chosen_Nk, len(self.load_E))
        if self.observe is not None and not self.repeating:
            self.observe(gates_Nk, chosen_Nk)
        out_BTD = self.experts(x_ND, gates_Nk, chosen_Nk).view_as(x_BTD)
        if self.shared_experts is not None:
            out_BTD = self.shared_experts(x_BTD) + out_BTD
        return out_BTD if self.scale == 1 else out_BTD * self.scale

    @torch.no_grad()
    def balance(self, rate: float) -> torch.Tensor:
        """Move the bias by `rate` towards even load and centre it, or with a rate of 0 leave it as it is; return each
        expert's share of the load."""
        share_E = self.load_E / self.load_E.sum().clamp(min=1)
        if self.steered and rate:
            self.expert_bias += rate * torch.sign(share_E.mean() - share_E)
            self.expert_bias -= self.expert_bias.mean()
        self.load_E.zero_()
        return share_E
