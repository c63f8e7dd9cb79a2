"""The decoder: embedding, layers with norms before and after each part (Grok-1's sandwich), head."""

from typing import Any, Protocol

import torch
from torch import nn

from troth.model.attention import Attend, Attention, packed_attention
from troth.model.config import ModelConfig
from troth.model.experts import Experts
from troth.model.latent_attention import LatentAttention
from troth.model.moe import FeedForward, MoE
from troth.model.norm import RMSNorm
from troth.model.rope import Positions


class DecoderLayer(nn.Module):
    """h += norm(attention(norm(h))); h += norm(feed_forward(norm(h))); the outer norms only with `post_norms`."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        size, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = RMSNorm(size, eps)
        self.self_attn = LatentAttention(config, layer) if config.latent else Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(size, eps) if config.post_norms else nn.Identity()
        self.pre_mlp_layernorm = RMSNorm(size, eps)
        self.mlp: MoE | FeedForward = (
            MoE(config) if config.is_moe(layer) else FeedForward(config, config.intermediate_size)
        )
        self.post_mlp_layernorm = RMSNorm(size, eps) if config.post_norms else nn.Identity()

    def forward(
        self, h_BTD: torch.Tensor, positions: Positions, attend: Attend, wanted_W: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Hidden states of all times, or, behind the attention, of the wanted ones only."""
        h_BTD = h_BTD + self.post_attention_layernorm(self.self_attn(self.input_layernorm(h_BTD), positions, attend))
        if wanted_W is not None:
            h_BTD = h_BTD[:, wanted_W]
        return h_BTD + self.post_mlp_layernorm(self.mlp(self.pre_mlp_layernorm(h_BTD)))


class Call(Protocol):
    """How a decoder calls its embedding and its layers: as they are, or in another dtype, or computed twice."""

    def __call__(self, part: nn.Module, *args: Any) -> torch.Tensor:
        """Return `part(*args)`."""
        ...


def _plainly(part: nn.Module, *args: Any) -> torch.Tensor:
    return part(*args)


class Decoder(nn.Module):
    """A mixture-of-experts language model; weights start uninitialised, see `initialise`."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(
        self,
        tokens_BT: torch.Tensor,
        attend: Attend | None = None,
        positions_BT: torch.Tensor | None = None,
        call: Call = _plainly,
        wanted_W: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states [batch, time, hidden] after the last norm; `logits` turns them into scores.

        Without `attend` each row of `tokens_BT` is one document; without `positions_BT` it starts at position 0. With
        `wanted_W`, indices of times, only the states of these are returned, and the last layer's feed-forward is
        spared for the others: a prompt needs the scores of its last token.
        """
        if attend is None:
            attend = packed_attention(self.config, torch.zeros_like(tokens_BT))
        if positions_BT is None:
            positions_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device).expand_as(tokens_BT)
        positions = Positions.of(positions_BT, self.config)
        h_BTD = call(self.embed_tokens, tokens_BT)
        if self.config.mup_enabled:
            h_BTD = h_BTD * self.config.hidden_size**0.5
        for place, layer in enumerate(self.layers, 1):
            h_BTD = call(layer, h_BTD, positions, attend, wanted_W if place == len(self.layers) else None)
        return self.norm(h_BTD)

    def logits(self, h_BTD: torch.Tensor) -> torch.Tensor:
        """Scores over the vocabulary, in the dtype of the weights, for hidden states of any leading shape."""
        scores_BTV, cap = self.lm_head(h_BTD), self.config.logit_softcap
        if self.config.logit_scale != 1:
            scores_BTV = scores_BTV * self.config.logit_scale
        return scores_BTV if cap is None else cap * torch.tanh(scores_BTV / cap)

    def moe_layers(self) -> list[MoE]:
        """The mixture-of-experts parts, from the first layer to the last."""
        return [layer.mlp for layer in self.layers if isinstance(layer.mlp, MoE)]


@torch.no_grad()
def initialise(model: Decoder, generator: torch.Generator) -> Decoder:
    """Fill every matrix with N(0, initializer_range^2); biases and routers start at zero, so that all experts begin
    alike."""
    std = model.config.initializer_range
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.normal_(0, std, generator=generator)
        elif isinstance(module, Experts):
            module.gate_up_proj.normal_(0, std, generator=generator)
            module.down_proj.normal_(0, std, generator=generator)
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "sinks")):
            parameter.zero_()
    for moe in model.moe_layers():
        moe.router.gate.weight.zero_()
    return model
