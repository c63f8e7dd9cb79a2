"""Mixtral (2401.04088): softmax over the experts, the top k renormalised; no norms of queries and keys."""

from typing import Any

from troth.model.config import ModelConfig
from troth.model.families.family import PRE_NORM, Family


def _read(data: dict[str, Any]) -> dict[str, Any]:
    layers = data.get("num_hidden_layers")
    return {"global_attn_every_n_layers": layers + 1} if isinstance(layers, int) else {}


def _write(config: ModelConfig) -> dict[str, Any]:
    layers = {config.layer_type(layer) for layer in range(config.num_hidden_layers)}
    if len(layers) > 1:
        raise ValueError("global_attn_every_n_layers: model_type mixtral has the window in every layer or in none")
    return {}


FAMILY = Family(
    architecture="MixtralForCausalLM",
    keys={
        "intermediate_size": "intermediate_size", "moe_intermediate_size": "intermediate_size",
        "num_experts": "num_local_experts", "sliding_window": "sliding_window",
    },
    fixed={"num_dense_layers": 0, "norm_topk_prob": True, "qk_norm": "none"} | PRE_NORM,
    names={
        "pre_mlp_layernorm": "post_attention_layernorm", "mlp.router.gate": "block_sparse_moe.gate",
        "mlp.experts": "block_sparse_moe.experts",
    },
    expert=("w1", "w3", "w2"),
    required={"hidden_act": "silu"},
    absent={"rope_theta": 1_000_000.0},
    read=_read,
    write=_write,
    own=("global_attn_every_n_layers",),
)  # fmt: skip
