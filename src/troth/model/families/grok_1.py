"""Grok-1 (github.com/xai-org/grok-1, model.py), in the layout of its conversions to Hugging Face folders."""

from typing import Any

from troth.model.config import ModelConfig
from troth.model.families.family import Family

GROK = {
    "num_dense_layers": 0, "router_score": "softmax", "norm_topk_prob": False, "qk_norm": "none",
    "attention_gate": False, "post_norms": True, "rope_layers": "all", "activation": "gelu_tanh", "mup_enabled": True,
    "sliding_window": None,
}  # fmt: skip
"""What both Groks have: a sandwich of norms, tanh-GELU, gates that are not renormalised, and embeddings multiplied by
the square root of their width."""
GROK_NORMS = {
    "input_layernorm": "pre_attn_norm", "post_attention_layernorm": "post_attn_norm",
    "pre_mlp_layernorm": "pre_moe_norm", "post_mlp_layernorm": "post_moe_norm",
}  # fmt: skip


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        "embedding_multiplier_scale": config.hidden_size**0.5,
        "attn_output_multiplier": config.attention_scale,
    }


def _read(data: dict[str, Any]) -> dict[str, Any]:
    experts = data.get("num_experts", data.get("num_local_experts"))
    tied = data.get("tie_word_embeddings", True)
    return {"tie_word_embeddings": tied} | ({} if experts is None else {"num_experts": experts})


FAMILY = Family(
    architecture="Grok1ModelForCausalLM",
    keys={
        "intermediate_size": "intermediate_size", "moe_intermediate_size": "intermediate_size",
        "num_experts": "num_experts", "attention_softcap": "max_attn_value",
        "logit_scale": "output_multiplier_scale",
    },
    fixed=GROK | {"num_shared_experts": 0},
    names=GROK_NORMS | {
        "norm.weight": "norm.scale", "self_attn": "attn", "mlp.router.gate": "moe_block.gate",
        "mlp.experts": "moe_block.experts",
    },
    expert=("linear", "linear_v", "linear_1"),
    read=_read,
    write=_write,
)  # fmt: skip
