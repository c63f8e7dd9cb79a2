"""Grok-2 (its released config.json, and the published networks of SGLang): a dense feed-forward beside the experts,
every kind of scores bent, attention sharpened beyond 1,024 positions.

The dense feed-forward stands here as shared experts, whose width divides it. The release names its frequencies
"original": they are not stretched, whatever its other keys of YaRN say.
"""

import math
from typing import Any

from troth.model.config import ModelConfig
from troth.model.families.family import Family
from troth.model.families.grok_1 import GROK, GROK_NORMS


def _read(data: dict[str, Any]) -> dict[str, Any]:
    dense, routed = data.get("intermediate_size"), data.get("moe_intermediate_size")
    if not isinstance(dense, int) or not isinstance(routed, int) or routed < 1 or dense % routed or not dense:
        raise ValueError(f"intermediate_size={dense!r}: expected a multiple of moe_intermediate_size={routed!r}")
    return {"num_shared_experts": dense // routed, "feed_forward_scale": 1 / math.sqrt(2)}


def _write(config: ModelConfig) -> dict[str, Any]:
    if config.intermediate_size != config.num_shared_experts * config.moe_intermediate_size:
        raise ValueError(
            f"intermediate_size={config.intermediate_size}: model_type grok-2 has that of its "
            f"num_shared_experts={config.num_shared_experts} of moe_intermediate_size={config.moe_intermediate_size}"
        )
    return {"embedding_multiplier_scale": config.hidden_size**0.5, "residual_moe": True}


FAMILY = Family(
    architecture="Grok1ForCausalLM",
    model_type="git",
    keys={
        "intermediate_size": "intermediate_size", "moe_intermediate_size": "moe_intermediate_size",
        "num_experts": "num_local_experts", "attention_softcap": "attn_logit_softcapping",
        "attention_temperature_len": "attn_temperature_len", "router_softcap": "router_logit_softcapping",
        "logit_scale": "output_multiplier_scale", "logit_softcap": "final_logit_softcapping",
    },
    fixed=GROK | {"feed_forward_scale": 1 / math.sqrt(2)},
    names=GROK_NORMS | {
        "mlp.router.gate": "block_sparse_moe.gate", "mlp.experts": "block_sparse_moe.experts",
        "mlp.shared_experts": "mlp",
    },
    expert=("w1", "w3", "w2"),
    required={
        "residual_moe": True, "rope_type": "original", "sliding_window_size": -1, "global_attn_every_n": 1,
        "rope_rotate_half_dims": False,
    },
    read=_read,
    write=_write,
    own=("num_shared_experts",),
)  # fmt: skip
