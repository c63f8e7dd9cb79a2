"""OLMoE (2409.02060): softmax over the experts; queries and keys normalised over all heads together."""

from troth.model.families.family import Family

FAMILY = Family(
    architecture="OlmoeForCausalLM",
    keys={
        "intermediate_size": "intermediate_size", "moe_intermediate_size": "intermediate_size",
        "num_experts": "num_experts", "norm_topk_prob": "norm_topk_prob",
    },
    fixed={
        "num_dense_layers": 0, "num_shared_experts": 0, "router_score": "softmax", "qk_norm": "width",
        "attention_gate": False, "post_norms": False, "rope_layers": "all", "mup_enabled": False, "route_scale": 1.0,
        "sliding_window": None,
    },
    names={"pre_mlp_layernorm": "post_attention_layernorm", "mlp.router.gate": "mlp.gate"},
    required={"hidden_act": "silu", "attention_bias": False, "clip_qkv": None},
)  # fmt: skip
