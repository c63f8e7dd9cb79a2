"""The native family (`model_type: afmoe`), which transformers, vLLM, SGLang and llama.cpp know."""

from troth.model.families.family import Family, layer_types

FAMILY = Family(
    architecture="AfmoeForCausalLM",
    keys={
        name: name
        for name in (
            "intermediate_size", "moe_intermediate_size", "num_dense_layers", "num_experts", "num_shared_experts",
            "route_scale", "sliding_window", "global_attn_every_n_layers", "mup_enabled",
        )
    },
    fixed={
        "router_score": "sigmoid", "norm_topk_prob": True, "qk_norm": "head", "attention_gate": True,
        "post_norms": True, "rope_layers": "sliding",
    },
    required={
        "hidden_act": "silu", "attention_bias": False, "score_func": "sigmoid", "route_norm": True, "n_group": 1,
        "topk_group": 1,
    },
    absent={"mup_enabled": False},
    write=layer_types,
)  # fmt: skip
