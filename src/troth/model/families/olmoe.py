"""OLMoE (2409.02060): softmax over the experts; queries and keys normalised over all heads together."""

from troth.model.families.family import PRE_NORM, PRE_NORM_NAMES, Family

FAMILY = Family(
    architecture="OlmoeForCausalLM",
    keys={
        "intermediate_size": "intermediate_size", "moe_intermediate_size": "intermediate_size",
        "num_experts": "num_experts", "norm_topk_prob": "norm_topk_prob",
    },
    fixed={"num_dense_layers": 0, "qk_norm": "width", "sliding_window": None} | PRE_NORM,
    names=PRE_NORM_NAMES,
    required={"hidden_act": "silu", "attention_bias": False, "clip_qkv": None},
    absent={"norm_topk_prob": False},
)  # fmt: skip
