"""Qwen3-MoE (2505.09388): softmax over the experts; queries and keys normalised in each head; dense layers first."""

from typing import Any

from troth.model.families.family import PRE_NORM, PRE_NORM_NAMES, Family


def _read(data: dict[str, Any]) -> dict[str, Any]:
    dense = data.get("mlp_only_layers") or []
    if not isinstance(dense, list) or dense != list(range(len(dense))):
        raise ValueError(f"mlp_only_layers={dense}: only the first layers may be dense")
    # transformers 5 writes the number of experts under another key than the released checkpoints have.
    experts = data.get("num_experts", data.get("num_local_experts"))
    return {"num_dense_layers": len(dense)} | ({} if experts is None else {"num_experts": experts})


FAMILY = Family(
    architecture="Qwen3MoeForCausalLM",
    keys={
        "intermediate_size": "intermediate_size", "moe_intermediate_size": "moe_intermediate_size",
        "num_experts": "num_experts", "norm_topk_prob": "norm_topk_prob",
    },
    fixed={"qk_norm": "head", "sliding_window": None} | PRE_NORM,
    names=PRE_NORM_NAMES,
    required={"hidden_act": "silu", "attention_bias": False, "decoder_sparse_step": 1, "use_sliding_window": False},
    absent={"rms_norm_eps": 1e-6, "norm_topk_prob": False},
    read=_read,
    write=lambda config: {"mlp_only_layers": list(range(config.num_dense_layers)), "decoder_sparse_step": 1},
    own=("num_dense_layers",),
)  # fmt: skip
