"""What llama.cpp calls the families' tensors and settings, and what of a family it cannot run.

Learned from its loaders (src/llama-model.cpp and src/models of llama.cpp); one entry of `ARCHITECTURES` a family.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from troth.model.config import ModelConfig

_NAMES = {
    "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
    "pre_mlp_layernorm": "ffn_norm", "post_mlp_layernorm": "post_ffw_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.gate_proj": "attn_gate",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.router.gate": "ffn_gate_inp", "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp", "mlp.shared_experts.down_proj": "ffn_down_shexp",
}  # fmt: skip
_STACKS = {
    "mlp.experts.gate_up_proj": ("ffn_gate_exps.weight", "ffn_up_exps.weight"),
    "mlp.experts.down_proj": ("ffn_down_exps.weight",),
    "mlp.expert_bias": ("exp_probs_b.bias",),
}
_AFMOE_PERIOD = 4
"""llama.cpp's AFMoE turns queries and keys by their positions in all layers but every fourth, whatever a file says."""
_YARN = {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True}
"""YaRN's borders, which only few of llama.cpp's architectures take from the file."""


def tensor_names(name: str, place: int) -> tuple[str, ...]:
    """llama.cpp's names of one of the network's tensors, in its layer `place`; gate and up projections of experts are
    two tensors there."""
    layer, part = "", name
    if name.startswith("layers."):
        layer, part = f"blk.{place}.", name.split(".", 2)[2]
    if part in _STACKS:
        return tuple(layer + stack for stack in _STACKS[part])
    base, _, kind = part.rpartition(".")
    return (f"{layer}{_NAMES[base]}.{kind}",)


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's architectures.

    `limits` yields, in words, what of a configuration it cannot run. `settings` are the keys that it needs besides the
    common ones, from the configuration and the places of its layers (see `places`). With `neighbours`, numbers
    2i and 2i + 1 of a query or key are turned together, not i and i + head_dim / 2. With `fixed_rope`, it has its own
    mind about which layers know positions.
    """

    name: str
    limits: Callable[[ModelConfig], Iterator[str]] = lambda config: iter(())
    settings: Callable[[ModelConfig, list[int | None]], dict[str, Any]] = lambda config, places: {}
    neighbours: bool = False
    fixed_rope: bool = False

    def check(self, config: ModelConfig) -> None:
        """Raise ValueError saying what of `config` llama.cpp would run as something else than it is."""
        for limit in (*self.limits(config), *_yarn_limits(config)):
            raise ValueError(f"{limit}, which llama.cpp's architecture {self.name} cannot run")

    def places(self, config: ModelConfig) -> list[int | None]:
        """The network's layer at each of llama.cpp's layers; None where one that changes nothing must stand between, so
        that each layer of the network is one that knows positions, or does not, as it should."""
        places: list[int | None] = []
        for layer in range(config.num_hidden_layers):
            while self.fixed_rope and config.uses_rope(layer) == _without_rope(len(places)):
                places.append(None)
            places.append(layer)
        return places

    def metadata(self, config: ModelConfig, places: list[int | None]) -> dict[str, Any]:
        """Every setting of the network by its key; Python's types stand for uint32, float32, bool, string and array."""
        c = config
        found = {
            "block_count": len(places),
            "context_length": c.max_position_embeddings,
            "embedding_length": c.hidden_size,
            "feed_forward_length": c.intermediate_size,
            "vocab_size": c.vocab_size,
            "attention.head_count": c.num_attention_heads,
            "attention.head_count_kv": c.num_key_value_heads,
            "attention.key_length": c.head_dim,
            "attention.value_length": c.head_dim,
            "attention.layer_norm_rms_epsilon": c.rms_norm_eps,
            "rope.dimension_count": c.head_dim,
            "rope.freq_base": c.rope_theta,
            "expert_count": c.num_experts,
            "expert_used_count": c.num_experts_per_tok,
        }
        return {f"{self.name}.{key}": value for key, value in (found | _yarn(c) | self.settings(c, places)).items()}


def leading_dense(config: ModelConfig, places: list[int | None]) -> int:
    """How many of llama.cpp's layers have one dense feed-forward; they are the first ones."""
    return places.index(config.num_dense_layers - 1) + 1 if config.num_dense_layers else 0


def _yarn(config: ModelConfig) -> dict[str, Any]:
    if config.yarn is None:
        return {}
    yarn = config.yarn
    return {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": yarn.factor,
        "rope.scaling.original_context_length": yarn.original_max_position_embeddings,
        # llama.cpp multiplies by the paper's factor itself.
        "rope.scaling.attn_factor": yarn.scale / (0.1 * math.log(yarn.factor) + 1),
        "rope.scaling.yarn_beta_fast": yarn.beta_fast,
        "rope.scaling.yarn_beta_slow": yarn.beta_slow,
    }


def _yarn_limits(config: ModelConfig) -> Iterator[str]:
    for key, value in _YARN.items():
        if config.yarn is not None and getattr(config.yarn, key) != value:
            yield f"rope_parameters.{key}={getattr(config.yarn, key)} (not {value})"


def _without_rope(place: int) -> bool:
    return place % _AFMOE_PERIOD == _AFMOE_PERIOD - 1


def _afmoe_limits(config: ModelConfig) -> Iterator[str]:
    if not config.mup_enabled:
        yield "mup_enabled=False"


def _afmoe(config: ModelConfig, places: list[int | None]) -> dict[str, Any]:
    return {
        "leading_dense_block_count": leading_dense(config, places),
        "expert_feed_forward_length": config.moe_intermediate_size,
        "expert_shared_count": config.num_shared_experts,
        "expert_gating_func": 2,  # sigmoid
        "expert_weights_norm": config.norm_topk_prob,
        "expert_weights_scale": config.route_scale,
        "attention.sliding_window": config.window,
        "attention.sliding_window_pattern": [
            layer is None or config.layer_type(layer) == "sliding_attention" for layer in places
        ],
    }


def _mixtral_limits(config: ModelConfig) -> Iterator[str]:
    if config.window < config.max_position_embeddings:
        yield f"sliding_window={config.sliding_window}"


def _qwen3_moe_limits(config: ModelConfig) -> Iterator[str]:
    if config.num_dense_layers:
        yield f"mlp_only_layers={list(range(config.num_dense_layers))}"
    if not config.norm_topk_prob:
        yield "norm_topk_prob=False"


def _olmoe_limits(config: ModelConfig) -> Iterator[str]:
    if config.norm_topk_prob:
        yield "norm_topk_prob=True"
    if config.tie_word_embeddings:
        yield "tie_word_embeddings=True"
    if config.num_key_value_heads != config.num_attention_heads:
        yield f"num_key_value_heads={config.num_key_value_heads} (not {config.num_attention_heads})"
    if config.num_attention_heads * config.head_dim != config.hidden_size:
        yield f"head_dim={config.head_dim} (not hidden_size / num_attention_heads)"


ARCHITECTURES: dict[str, Architecture] = {
    "afmoe": Architecture("afmoe", _afmoe_limits, _afmoe, fixed_rope=True),
    "mixtral": Architecture("llama", _mixtral_limits, neighbours=True),
    "olmoe": Architecture("olmoe", _olmoe_limits),
    "qwen3_moe": Architecture(
        "qwen3moe", _qwen3_moe_limits, lambda config, _: {"expert_feed_forward_length": config.moe_intermediate_size}
    ),
}


def architecture_of(config: ModelConfig) -> Architecture:
    """llama.cpp's architecture of a family. Raises ValueError naming a family that has none here."""
    found = ARCHITECTURES.get(config.model_type)
    if found is None:
        raise ValueError(f"model_type={config.model_type!r}: known for GGUF are {', '.join(ARCHITECTURES)}")
    found.check(config)
    return found
