"""What a family is: how its config.json and its tensors' names map to the one decoder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from troth.model.config import ModelConfig

_SAME = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "num_experts_per_tok", "max_position_embeddings", "rms_norm_eps", "initializer_range", "tie_word_embeddings",
)  # fmt: skip
"""Fields of ModelConfig that every family writes under the same key."""

FP8_BLOCK = 128
"""Rows and columns of a block of 8-bit weights that has one scale."""

PRE_NORM = {
    "num_shared_experts": 0, "router_score": "softmax", "attention_gate": False, "post_norms": False,
    "rope_layers": "all", "mup_enabled": False, "route_scale": 1.0,
}  # fmt: skip
"""What the families have in common that add experts to a Llama: norms before each part only, RoPE in every layer."""
PRE_NORM_NAMES = {"pre_mlp_layernorm": "post_attention_layernorm", "mlp.router.gate": "mlp.gate"}
"""Their names, where they are not ours."""


@dataclass(frozen=True)
class Family:
    """One layout of Hugging Face folders.

    keys: the config.json key of each further field of ModelConfig; None for one that others write and this does not.
    fixed: fields that are always the same in it.
    names: replacements that turn our tensors' names into the family's, in order.
    expert: its names of an expert's gate, up and down projection; None where all experts of a layer are stored in one
        tensor, [experts, in, out], with gate and up alternating.
    required: values that keys must have where they are present.
    absent: fields of ModelConfig whose value transformers takes to be this, not our default, where their key is absent.
    read: fields of ModelConfig that a config.json gives by more than a key.
    write: keys that follow from the whole configuration, and must agree with it where they are read.
    own: the fields that these two carry.
    unused: how the names of tensors begin that its folders may hold and this network has no use for.
    model_type: what config.json calls it, where that is not our name.
    """

    architecture: str
    keys: Mapping[str, str | None]
    fixed: Mapping[str, Any]
    names: Mapping[str, str] = field(default_factory=dict)
    expert: tuple[str, str, str] | None = ("gate_proj", "up_proj", "down_proj")
    required: Mapping[str, Any] = field(default_factory=dict)
    absent: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[dict[str, Any]], dict[str, Any]] = lambda data: {}
    write: Callable[[ModelConfig], dict[str, Any]] = lambda config: {}
    own: tuple[str, ...] = ()
    unused: Callable[[ModelConfig], str | None] = lambda config: None
    model_type: str | None = None

    @property
    def all_keys(self) -> dict[str, str]:
        """The config.json key of every field that the family writes."""
        keys = {name: name for name in _SAME} | dict(self.keys)
        return {name: key for name, key in keys.items() if key is not None}

    def rename(self, name: str) -> str:
        """The family's name of one of our tensors, experts' stacks aside."""
        for ours, theirs in self.names.items():
            name = name.replace(ours, theirs)
        return name if name.startswith("lm_head") else f"model.{name}"


def layer_types(config: ModelConfig) -> dict[str, Any]:
    """What families write that have a window in some layers. Raises ValueError where there is none."""
    if config.sliding_window is None:
        raise ValueError(f"sliding_window: model_type {config.model_type} needs one")
    return {"layer_types": [config.layer_type(layer) for layer in range(config.num_hidden_layers)]}
