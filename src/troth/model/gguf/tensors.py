"""The network's tensors as a GGUF file has them: llama.cpp's names, and what it wants split, turned or reordered."""

import torch

from troth.model.config import ModelConfig
from troth.model.gguf.architectures import Architecture

_NAMES = {
    "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
    "pre_mlp_layernorm": "ffn_norm", "post_mlp_layernorm": "post_ffw_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.gate_proj": "attn_gate",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.router.gate": "ffn_gate_inp", "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp", "mlp.shared_experts.down_proj": "ffn_down_shexp",
}  # fmt: skip
_WHOLE_NAMES = {
    "mlp.experts.gate_up_proj": ("ffn_gate_exps.weight", "ffn_up_exps.weight"),
    "mlp.experts.gate_up_bias": ("ffn_gate_exps.bias", "ffn_up_exps.bias"),
    "mlp.experts.down_proj": ("ffn_down_exps.weight",),
    "mlp.experts.down_bias": ("ffn_down_exps.bias",),
    "mlp.expert_bias": ("exp_probs_b.bias",),
    "self_attn.sinks": ("attn_sinks.weight",),
    "self_attn.kv_b_proj.weight": ("attn_k_b.weight", "attn_v_b.weight"),
}
"""Those that end otherwise there, or are two."""


def named_parts(
    name: str, whole: torch.Tensor, place: int, architecture: Architecture, config: ModelConfig
) -> list[tuple[str, torch.Tensor]]:
    """What one of the network's tensors becomes in llama.cpp's layer `place`: names there, and views or copies of the
    numbers. Those of `whole` may be missing (device meta), where only shapes are asked for."""
    layer, part = "", name
    if name.startswith("layers."):
        layer, part = f"blk.{place}.", name.split(".", 2)[2]
    names: tuple[str, ...]
    if part in _WHOLE_NAMES:
        names = _WHOLE_NAMES[part]
    else:
        base, _, kind = part.rpartition(".")
        names = (f"{architecture.names.get(base, _NAMES[base])}.{kind}",)
    parts = _parts(part, whole, architecture, config)
    return [(layer + theirs, value) for theirs, value in zip(names, parts, strict=True)]


def _parts(part: str, whole: torch.Tensor, architecture: Architecture, config: ModelConfig) -> list[torch.Tensor]:
    if part.startswith("mlp.experts.gate_up"):
        return list(whole.unbind(1))
    if part == "self_attn.kv_b_proj.weight":
        return _keys_and_values(whole, config)
    if architecture.neighbours and part in ("self_attn.q_proj.weight", "self_attn.k_proj.weight"):
        return [_as_neighbours(whole, config.head_dim)]
    return [whole]


def _keys_and_values(weight_Oc: torch.Tensor, config: ModelConfig) -> list[torch.Tensor]:
    """What forms keys of latents is multiplied with queries there, [heads, latent, key], what forms values with the
    sum of latents, [heads, value, latent] (see `latent_attention`)."""
    assert config.latent is not None
    sizes = config.latent.qk_nope_head_dim, config.latent.v_head_dim
    keys_Hnc, values_Hvc = weight_Oc.unflatten(0, (config.num_attention_heads, -1)).split(sizes, dim=1)
    return [keys_Hnc.mT, values_Hvc]


def _as_neighbours(weight_HD: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Rows of each head in the order 0, d/2, 1, d/2 + 1, ...: what is turned together becomes neighbours."""
    return weight_HD.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)
