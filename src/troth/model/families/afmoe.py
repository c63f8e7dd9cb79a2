"""The native family (`model_type: afmoe`), which transformers, vLLM, SGLang and llama.cpp know."""

from typing import Any

from troth.model.config import ModelConfig
from troth.model.families.family import Family


def _read(data: dict[str, Any]) -> dict[str, Any]:
    every = data.get("global_attn_every_n_layers", ModelConfig.model_fields["global_attn_every_n_layers"].default)
    layers = data.get("num_hidden_layers")
    if isinstance(layers, int) and isinstance(every, int) and every > 0 and data.get("layer_types") is not None:
        expected = _layer_types(layers, every)
        if data["layer_types"] != expected:
            raise ValueError("layer_types: does not follow from global_attn_every_n_layers")
    return {}


def _write(fields: dict[str, Any]) -> dict[str, Any]:
    if fields["sliding_window"] is None:
        raise ValueError("sliding_window: model_type afmoe needs one")
    return {"layer_types": _layer_types(fields["num_hidden_layers"], fields["global_attn_every_n_layers"])}


def _layer_types(layers: int, every: int) -> list[str]:
    return ["sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(layers)]


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
    read=_read,
    write=_write,
)  # fmt: skip
