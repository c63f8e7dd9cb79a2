"""Multi-head latent attention (DeepSeek-V2, 2405.04434, section 2.1; DeepSeek-V3, 2412.19437, section 2.1.1).

Over whole sequences keys and values of each head are formed from the latents. Where they are kept, only the latents
are: the matrices that would form keys and values are moved to the queries and outputs instead, so that all heads read
one cache of `kv_lora_rank + qk_rope_head_dim` numbers a token.
"""

import torch
from torch import nn

from troth.model.attention import Attend
from troth.model.config import ModelConfig
from troth.model.norm import RMSNorm
from troth.model.products import Linear
from troth.model.rope import Positions, rotate_neighbours
from troth.model.scores import Scores

LATENT_EPS = 1e-6
"""Of the latents' norms, whatever `rms_norm_eps` is: so in the release's code and in transformers."""


class LatentAttention(nn.Module):
    """[batch, time, hidden] -> the same."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        assert config.latent is not None
        self.layer, self.heads, self.latent = layer, config.num_attention_heads, config.latent
        self.head_dim = config.head_dim
        self.scores = Scores(config.attention_scale)
        sizes, hidden = config.latent, config.hidden_size
        query_size = self.heads * config.head_dim
        if sizes.q_lora_rank is None:
            self.q_proj = Linear(hidden, query_size, bias=False)
        else:
            self.q_a_proj = Linear(hidden, sizes.q_lora_rank, bias=False)
            self.q_a_layernorm = RMSNorm(sizes.q_lora_rank, LATENT_EPS)
            self.q_b_proj = Linear(sizes.q_lora_rank, query_size, bias=False)
        self.kv_a_proj_with_mqa = Linear(hidden, sizes.kv_lora_rank + sizes.qk_rope_head_dim, bias=False)
        self.kv_a_layernorm = RMSNorm(sizes.kv_lora_rank, LATENT_EPS)
        expanded = self.heads * (sizes.qk_nope_head_dim + sizes.v_head_dim)
        self.kv_b_proj = Linear(sizes.kv_lora_rank, expanded, bias=False)
        self.o_proj = Linear(self.heads * sizes.v_head_dim, hidden, bias=False)

    def forward(self, x_BTD: torch.Tensor, positions: Positions, attend: Attend) -> torch.Tensor:
        sizes = self.latent
        if sizes.q_lora_rank is None:
            q_BTH = self.q_proj(x_BTD)
        else:
            q_BTH = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x_BTD)))
        q_BHTd = q_BTH.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        q_own, q_turned = q_BHTd.split((sizes.qk_nope_head_dim, sizes.qk_rope_head_dim), dim=-1)
        latent_BTc, key_BTr = self.kv_a_proj_with_mqa(x_BTD).split((sizes.kv_lora_rank, sizes.qk_rope_head_dim), dim=-1)
        latent_B1Tc = self.kv_a_layernorm(latent_BTc)[:, None]
        q_turned = rotate_neighbours(q_turned, positions.cos, positions.sin)
        key_B1Tr = rotate_neighbours(key_BTr[:, None], positions.cos, positions.sin)
        if attend.keeps:
            out_BHTv = self._over_latents(q_own, q_turned, latent_B1Tc, key_B1Tr, attend)
        else:
            sizes_of_head = sizes.qk_nope_head_dim + sizes.v_head_dim
            expanded = self.kv_b_proj(latent_B1Tc[:, 0]).unflatten(-1, (-1, sizes_of_head)).transpose(1, 2)
            k_own, v_BHTv = expanded.split((sizes.qk_nope_head_dim, sizes.v_head_dim), dim=-1)
            k_BHTd = torch.cat((k_own, key_B1Tr.expand(-1, k_own.shape[1], -1, -1)), dim=-1)
            q_BHTd = torch.cat((q_own, q_turned), dim=-1)
            out_BHTv = attend(self.layer, q_BHTd, k_BHTd, v_BHTv, self.scores)
        return self.o_proj(out_BHTv.transpose(1, 2).flatten(2))

    def _over_latents(
        self, q_own: torch.Tensor, q_turned: torch.Tensor, latent_B1Tc: torch.Tensor, key_B1Tr: torch.Tensor,
        attend: Attend,
    ) -> torch.Tensor:  # fmt: skip
        """q . (W latent) = (W^T q) . latent, and the weighted sum of (V latent) is V times that of latents."""
        sizes = self.latent
        w_Hac = self.kv_b_proj.weight.view(self.heads, -1, sizes.kv_lora_rank)
        keys_Hnc, values_Hvc = w_Hac.split((sizes.qk_nope_head_dim, sizes.v_head_dim), dim=1)
        q_BHTe = torch.cat((q_own @ keys_Hnc, q_turned), dim=-1)
        k_B1Te = torch.cat((latent_B1Tc, key_B1Tr), dim=-1)
        return attend(self.layer, q_BHTe, k_B1Te, latent_B1Tc, self.scores) @ values_Hvc.transpose(1, 2)
