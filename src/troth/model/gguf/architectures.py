"""What llama.cpp calls the families' settings, and what of a family it cannot run; `tensors` has the tensors.

Learned from its loaders (src/llama-model.cpp and src/models of llama.cpp); one entry of `ARCHITECTURES` a family.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from troth.model.config import ModelConfig
from troth.model.latent_attention import LATENT_EPS

_AFMOE_PERIOD = 4
"""llama.cpp's AFMoE turns queries and keys by their positions in all layers but every fourth, whatever a file says."""
_SIGMOID = 2
"""llama.cpp's number of routers whose scores are sigmoids."""
_MOST_LAYERS, _MOST_EXPERTS = 512, 1024
"""llama.cpp ends the process where a file has more."""
_YARN = {"beta_fast": 32.0, "beta_slow": 1.0}
"""YaRN's borders, which only few of llama.cpp's architectures take from the file."""


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's architectures.

    `limits` yields, in words, what of a configuration it cannot run. `settings` are the keys that it needs besides the
    common ones, from the configuration and the places of its layers (see `places`). `names` are its names of tensors
    that others call otherwise. With `neighbours`, numbers 2i and 2i + 1 of a query or key are turned together, not i
    and i + head_dim / 2. With `fixed_rope`, it has its own mind about which layers know positions.
    """

    name: str
    limits: Callable[[ModelConfig], Iterator[str]] = lambda config: iter(())
    settings: Callable[[ModelConfig, list[int | None]], dict[str, Any]] = lambda config, places: {}
    names: Mapping[str, str] = field(default_factory=dict)
    neighbours: bool = False
    fixed_rope: bool = False

    def check(self, config: ModelConfig) -> None:
        """Raise ValueError saying what of `config` llama.cpp would run as something else than it is."""
        for limit in (*self.limits(config), *_yarn_limits(config), *_size_limits(config, len(self.places(config)))):
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


def _size_limits(config: ModelConfig, layers: int) -> Iterator[str]:
    if layers > _MOST_LAYERS:
        yield f"num_hidden_layers={config.num_hidden_layers} (more than {_MOST_LAYERS} layers there)"
    if config.num_experts > _MOST_EXPERTS:
        yield f"num_experts={config.num_experts} (more than {_MOST_EXPERTS:,})"


def _without_rope(place: int) -> bool:
    return place % _AFMOE_PERIOD == _AFMOE_PERIOD - 1


def _experts(config: ModelConfig, places: list[int | None]) -> dict[str, Any]:
    """Shared experts, and others that are routed to by sigmoids."""
    return {
        "leading_dense_block_count": leading_dense(config, places),
        "expert_feed_forward_length": config.moe_intermediate_size,
        "expert_shared_count": config.num_shared_experts,
        "expert_gating_func": _SIGMOID,
        "expert_weights_norm": config.norm_topk_prob,
        "expert_weights_scale": config.route_scale,
    }


def _head_limits(config: ModelConfig) -> Iterator[str]:
    if config.num_attention_heads * config.head_dim != config.hidden_size:
        yield f"head_dim={config.head_dim} (not hidden_size / num_attention_heads)"


def _afmoe_limits(config: ModelConfig) -> Iterator[str]:
    if not config.mup_enabled:
        yield "mup_enabled=False"


def _afmoe(config: ModelConfig, places: list[int | None]) -> dict[str, Any]:
    return {
        **_experts(config, places),
        "attention.sliding_window": config.window,
        "attention.sliding_window_pattern": [
            layer is None or config.layer_type(layer) == "sliding_attention" for layer in places
        ],
    }


def _grok_1_limits(config: ModelConfig) -> Iterator[str]:
    if config.attention_softcap is None:
        yield "max_attn_value=None"
    yield from _head_limits(config)


def _grok_1(config: ModelConfig, _: list[int | None]) -> dict[str, Any]:
    """It makes the gates of the chosen experts sum to one, which the norm behind them takes away again."""
    return {
        "expert_feed_forward_length": config.moe_intermediate_size,
        "embedding_scale": math.sqrt(config.hidden_size),
        "logit_scale": config.logit_scale,
        "attention.output_scale": config.attention_scale,
        "attn_logit_softcapping": config.attention_softcap,
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
    yield from _head_limits(config)


def _gpt_oss_limits(config: ModelConfig) -> Iterator[str]:
    for key, value in {"swiglu_limit": 7.0, "swiglu_alpha": 1.702}.items():
        if getattr(config, key) != value:
            yield f"{key}={getattr(config, key)} (not {value})"
    if config.tie_word_embeddings:
        yield "tie_word_embeddings=True"


def _gpt_oss(config: ModelConfig, _: list[int | None]) -> dict[str, Any]:
    return {
        "expert_feed_forward_length": config.moe_intermediate_size,
        "attention.sliding_window": config.window,
    }


def _deepseek_v3_limits(config: ModelConfig) -> Iterator[str]:
    assert config.latent is not None
    if config.rms_norm_eps != LATENT_EPS:
        # It has one for all norms; those of latents are always this in DeepSeek-V3.
        yield f"rms_norm_eps={config.rms_norm_eps} (not {LATENT_EPS})"
    if not config.num_shared_experts:
        yield "n_shared_experts=0"
    layers, rank = config.num_hidden_layers, config.latent.q_lora_rank
    if rank is not None and (layers in (26, 27) or (layers == 48 and config.vocab_size == 128256)):
        # By these numbers it knows smaller models, which have none.
        yield f"q_lora_rank={rank} with num_hidden_layers={layers}"
    if config.yarn is not None and config.yarn.factor == 1 and config.yarn.scale != 1:
        yield f"rope_parameters.attention_factor={config.yarn.attention_factor} with a factor of 1"


def _deepseek_v3(config: ModelConfig, places: list[int | None]) -> dict[str, Any]:
    latent = config.latent
    assert latent is not None
    found = {
        **_experts(config, places),
        # All heads read one key of the latent and the turned part, whose beginning is the value.
        "attention.head_count_kv": 1,
        "attention.key_length": latent.kv_lora_rank + latent.qk_rope_head_dim,
        "attention.value_length": latent.kv_lora_rank,
        "attention.key_length_mla": config.head_dim,
        "attention.value_length_mla": latent.v_head_dim,
        "attention.q_lora_rank": latent.q_lora_rank or 0,
        "attention.kv_lora_rank": latent.kv_lora_rank,
        "rope.dimension_count": latent.qk_rope_head_dim,
    }
    if config.topk_groups < config.num_expert_groups < config.num_experts:
        # It runs no others; those change nothing.
        found |= {"expert_group_count": config.num_expert_groups, "expert_group_used_count": config.topk_groups}
    return found | _latent_yarn(config)


def _latent_yarn(config: ModelConfig) -> dict[str, Any]:
    """It turns by angles whose cosines are multiplied by `attn_factor`, and multiplies scores by the square of
    attn_factor * (1 + log_multiplier * ln(factor)), where this is not zero; the first is ours, the second follows."""
    if config.yarn is None or config.yarn.factor == 1:
        return {}
    scale = config.yarn.scale
    multiplier = (math.sqrt(config.yarn.latent_scale) / scale - 1) / math.log(config.yarn.factor)
    if not multiplier:
        return {}
    return {"rope.scaling.attn_factor": scale, "rope.scaling.yarn_log_multiplier": multiplier}


ARCHITECTURES: dict[str, Architecture] = {
    "afmoe": Architecture("afmoe", _afmoe_limits, _afmoe, fixed_rope=True),
    "deepseek_v3": Architecture("deepseek2", _deepseek_v3_limits, _deepseek_v3),
    "gpt_oss": Architecture(
        "gpt-oss", _gpt_oss_limits, _gpt_oss, names={"pre_mlp_layernorm": "post_attention_norm"}
    ),
    "grok-1": Architecture(
        "grok", _grok_1_limits, _grok_1,
        names={"post_attention_layernorm": "attn_output_norm", "post_mlp_layernorm": "layer_output_norm"},
    ),
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
