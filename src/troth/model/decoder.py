"""The decoder: embedding, layers with norms before and after each part (Grok-1's sandwich), head."""

from typing import Any, Protocol

import torch
from torch import nn

from troth.model.attention import Attend, Attention, packed_attention
from troth.model.config import ModelConfig
from troth.model.latent_attention import LatentAttention
from troth.model.moe import FeedForward, MoE
from troth.model.norm import RMSNorm
from troth.model.products import Linear
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


def plainly(part: nn.Module, *args: Any) -> torch.Tensor:
    """The `Call` that does nothing besides."""
    return part(*args)


class Decoder(nn.Module):
    """A mixture-of-experts language model; weights start uninitialised, see `initialise`.

    With `layers` it is the part of one that has these layers, the embedding where they begin with the first, and the
    last norm and the head where they end with the last. With `embeds`, or where the head is the embedding, the last
    part has the embedding too.
    """

    def __init__(self, config: ModelConfig, layers: range | None = None, embeds: bool = False):
        super().__init__()
        self.config = config
        layers = range(config.num_hidden_layers) if layers is None else layers
        self.first, self.last = layers.start == 0, layers.stop == config.num_hidden_layers
        tied = self.last and config.tie_word_embeddings
        if self.first or embeds or tied:
            self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        # By their numbers, so that a part's weights have the names that they have in the whole.
        self.layers = nn.ModuleDict({str(layer): DecoderLayer(config, layer) for layer in layers})
        if self.last:
            self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
            self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if tied:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(
        self,
        inputs: torch.Tensor,
        attend: Attend | None = None,
        positions_BT: torch.Tensor | None = None,
        call: Call = plainly,
        wanted_W: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Hidden states [batch, time, hidden] after the last norm; `logits` turns them into scores.

        `inputs` are tokens [batch, time]; a part without the embedding takes hidden states, and one without the head
        returns those after its last layer. Without `attend` each row is one document; without `positions_BT` it starts
        at position 0. With `wanted_W`, indices of times, only the states of these are returned, and the last layer's
        feed-forward is spared for the others: a prompt needs the scores of its last token.
        """
        if attend is None:
            one_document = torch.zeros(inputs.shape[:2], dtype=torch.int64, device=inputs.device)
            attend = packed_attention(self.config, one_document)
        if positions_BT is None:
            positions_BT = torch.arange(inputs.shape[1], device=inputs.device).expand(inputs.shape[:2])
        positions = Positions.of(positions_BT, self.config)
        h_BTD = inputs
        if self.first:
            h_BTD = call(self.embed_tokens, inputs)
            if self.config.mup_enabled:
                h_BTD = h_BTD * self.config.hidden_size**0.5
        for place, layer in enumerate(self.layers.values(), 1):
            h_BTD = call(layer, h_BTD, positions, attend, wanted_W if place == len(self.layers) else None)
        return self.norm(h_BTD) if self.last else h_BTD

    def logits(self, h_BTD: torch.Tensor) -> torch.Tensor:
        """Scores over the vocabulary, in the dtype of the weights, for hidden states of any leading shape."""
        scores_BTV, cap = self.lm_head(h_BTD), self.config.logit_softcap
        if self.config.logit_scale != 1:
            scores_BTV = scores_BTV * self.config.logit_scale
        return scores_BTV if cap is None else cap * torch.tanh(scores_BTV / cap)

    def moe_layers(self) -> list[MoE]:
        """The mixture-of-experts parts, from the first layer to the last."""
        return [layer.mlp for layer in self.layers.values() if isinstance(layer.mlp, MoE)]
