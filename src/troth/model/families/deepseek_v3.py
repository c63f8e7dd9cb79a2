"""DeepSeek-V3 (2412.19437): latent attention, sigmoid routing within the best groups of experts, shared experts."""

from typing import Any

from troth.model.config import Latent, ModelConfig
from troth.model.families.family import PRE_NORM, Family


def _read(data: dict[str, Any]) -> dict[str, Any]:
    latent = {key: data[key] for key in Latent.model_fields if data.get(key) is not None}
    sizes = [latent.get(key) for key in ("qk_nope_head_dim", "qk_rope_head_dim")]
    # Where one is missing or no number, that is what will be told.
    whole = sum(size for size in sizes if isinstance(size, int))
    return {"latent": latent, "head_dim": whole or 2}


def _write(config: ModelConfig) -> dict[str, Any]:
    if config.latent is None:
        raise ValueError("latent: model_type deepseek_v3 needs it")
    return {**config.latent.model_dump(), "head_dim": config.latent.qk_rope_head_dim, "rope_interleave": True}


FAMILY = Family(
    architecture="DeepseekV3ForCausalLM",
    keys={
        "intermediate_size": "intermediate_size", "moe_intermediate_size": "moe_intermediate_size",
        "num_dense_layers": "first_k_dense_replace", "num_experts": "n_routed_experts",
        "num_shared_experts": "n_shared_experts", "route_scale": "routed_scaling_factor",
        "norm_topk_prob": "norm_topk_prob", "num_expert_groups": "n_group", "topk_groups": "topk_group",
        "head_dim": None,
    },
    fixed={
        name: value for name, value in PRE_NORM.items() if name not in ("num_shared_experts", "route_scale")
    } | {"router_score": "sigmoid", "qk_norm": "none", "sliding_window": None},
    names={
        "pre_mlp_layernorm": "post_attention_layernorm", "mlp.router.gate": "mlp.gate",
        "mlp.expert_bias": "mlp.gate.e_score_correction_bias",
    },
    required={
        "hidden_act": "silu", "attention_bias": False, "rope_interleave": True, "scoring_func": "sigmoid",
        "topk_method": "noaux_tc", "moe_layer_freq": 1,
    },
    absent={"rms_norm_eps": 1e-6, "route_scale": 2.5},
    read=_read,
    write=_write,
    own=("latent", "head_dim"),
    # The release has a further layer that predicts the token after the next.
    unused=lambda config: f"model.layers.{config.num_hidden_layers}.",
)  # fmt: skip
