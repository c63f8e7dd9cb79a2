"""gpt-oss (2508.10925): attention with sinks, every second layer over a window, clamped experts, biases everywhere.

Its softmax over the chosen experts alone is one over all of them, renormalised over the chosen.
"""

from troth.model.families.family import PRE_NORM, Family, layer_types

FAMILY = Family(
    architecture="GptOssForCausalLM",
    keys={
        "intermediate_size": "intermediate_size", "moe_intermediate_size": "intermediate_size",
        "num_experts": "num_local_experts", "sliding_window": "sliding_window", "swiglu_limit": "swiglu_limit",
        "swiglu_alpha": "swiglu_alpha",
    },
    fixed={
        "num_dense_layers": 0, "norm_topk_prob": True, "qk_norm": "none", "attention_sinks": True, "biases": True,
        "global_attn_every_n_layers": 2,
    } | PRE_NORM,
    names={"pre_mlp_layernorm": "post_attention_layernorm", "mlp.router.gate": "mlp.router"},
    expert=None,
    required={"hidden_act": "silu", "attention_bias": True},
    absent={
        "head_dim": 64, "swiglu_limit": 7.0, "rope_theta": 150_000.0,
        "yarn": {"factor": 32.0, "original_max_position_embeddings": 4096, "truncate": False},
    },
    write=layer_types,
)  # fmt: skip
