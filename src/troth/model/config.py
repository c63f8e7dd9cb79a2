"""The shape of a network, in the field's own names (those of a Hugging Face config.json). Imports no torch."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ModelType = Literal["afmoe", "deepseek_v3", "gpt_oss", "grok-1", "grok-2", "mixtral", "olmoe", "qwen3_moe"]
LayerType = Literal["sliding_attention", "full_attention"]
# Far beyond any network; what counts by layers would take minutes for a number that was mistyped.
MOST_LAYERS = 10_000


class Yarn(BaseModel):
    """How rotary positions are stretched from the length that a network was trained on (see `rope`).

    Rotations that turn more than `beta_fast` times within that length stay as they are, those that turn less than
    `beta_slow` times are slowed by `factor`; the borders between them are whole rotations with `truncate`.
    `attention_factor` multiplies queries and keys; where absent it is the paper's, or, where both `mscale` and
    `mscale_all_dim` are given, follows from these (DeepSeek-V3's way).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    factor: float = Field(ge=1)
    original_max_position_embeddings: int = Field(gt=0)
    beta_fast: float = Field(default=32.0, gt=0)
    beta_slow: float = Field(default=1.0, gt=0)
    truncate: bool = True
    attention_factor: float | None = Field(default=None, gt=0)
    mscale: float | None = Field(default=None, gt=0)
    mscale_all_dim: float | None = Field(default=None, gt=0)

    @property
    def scale(self) -> float:
        """What queries and keys are multiplied by (section 3.4)."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale is not None and self.mscale_all_dim is not None:
            return self._growth(self.mscale) / self._growth(self.mscale_all_dim)
        return self._growth(1)

    @property
    def latent_scale(self) -> float:
        """What latent attention multiplies its scores by besides, so that parts without positions grow as well."""
        return 1.0 if self.mscale_all_dim is None else self._growth(self.mscale_all_dim) ** 2

    def _growth(self, weight: float) -> float:
        return 0.1 * weight * math.log(self.factor) + 1


class Latent(BaseModel):
    """Sizes of latent attention (DeepSeek-V2, 2405.04434, section 2.1): keys and values of all heads come from one
    latent vector of `kv_lora_rank` numbers, queries from one of `q_lora_rank` or, without, from the hidden state.

    Each head's key has `qk_nope_head_dim` numbers of its own and `qk_rope_head_dim` that all heads share and that
    alone know positions; its value has `v_head_dim`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    q_lora_rank: int | None = Field(default=None, gt=0)
    kv_lora_rank: int = Field(gt=0)
    qk_nope_head_dim: int = Field(gt=0)
    qk_rope_head_dim: int = Field(gt=0, multiple_of=2)
    v_head_dim: int = Field(gt=0)


class ModelConfig(BaseModel):
    """Dimensions and switches of a decoder; the switches' defaults are those of the native family (AFMoE).

    Sizes are counts; `sliding_window` is in tokens and includes the token itself, and without one every layer attends
    to everything. `vocab_size` counts every row of the embedding, special tokens included. Raises pydantic's
    ValidationError (a ValueError) where they do not fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model_type: ModelType = "afmoe"
    """The family whose Hugging Face layout the weights have on disk (see `families`)."""
    vocab_size: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    moe_intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0, le=MOST_LAYERS)
    num_dense_layers: int = Field(ge=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0, multiple_of=2)
    num_experts: int = Field(gt=0)
    num_experts_per_tok: int = Field(gt=0)
    num_shared_experts: int = Field(ge=0)
    route_scale: float = Field(default=1.0, gt=0)
    sliding_window: int | None = Field(default=None, gt=0)
    global_attn_every_n_layers: int = Field(default=4, gt=0)
    max_position_embeddings: int = Field(gt=0)
    rope_theta: float = Field(default=10_000.0, gt=0)
    yarn: Yarn | None = None
    rms_norm_eps: float = Field(default=1e-5, gt=0)
    initializer_range: float = Field(default=0.02, gt=0)
    mup_enabled: bool = True
    tie_word_embeddings: bool = False
    router_score: Literal["sigmoid", "softmax"] = "sigmoid"
    """How the router scores experts; only sigmoid scores are steered by a bias."""
    norm_topk_prob: bool = True
    """Whether the gates of the chosen experts are made to sum to one."""
    qk_norm: Literal["head", "width", "none"] = "head"
    """Whether queries and keys are normalised, and over what: each head, or all heads together."""
    attention_gate: bool = True
    """Whether the attention's output is gated."""
    post_norms: bool = True
    """Whether the output of attention and feed-forward is normalised too, as in Grok-1."""
    rope_layers: Literal["sliding", "all"] = "sliding"
    """Which layers turn queries and keys by their positions."""
    latent: Latent | None = None
    """Latent attention in place of grouped queries; `head_dim` is then the size of a whole key."""
    attention_softcap: float | None = Field(default=None, gt=0)
    """Scores of attention are bent below this bound: cap * tanh(score / cap)."""
    attention_temperature_len: int | None = Field(default=None, gt=1)
    """Beyond this position a query's scores are multiplied by log(position) / log(this) (Grok-2)."""
    attention_sinks: bool = False
    """Whether each head has a learned score that takes weight from the tokens (2309.17453, section 3.2)."""
    biases: bool = False
    """Whether the projections of attention, routers and experts have biases."""
    activation: Literal["silu", "gelu_tanh"] = "silu"
    """What gates are sent through in feed-forwards."""
    swiglu_limit: float | None = Field(default=None, gt=0)
    """With a limit, experts clamp what they gate, and the gate is x * sigmoid(`swiglu_alpha` * x) (gpt-oss)."""
    swiglu_alpha: float = Field(default=1.702, gt=0)
    num_expert_groups: int = Field(default=1, gt=0)
    """Groups of experts, of which each token may use the best `topk_groups` only (DeepSeek-V3, section 2.1.2)."""
    topk_groups: int = Field(default=1, gt=0)
    router_softcap: float | None = Field(default=None, gt=0)
    feed_forward_scale: float = Field(default=1.0, gt=0)
    """What the sum of shared and routed experts is multiplied by."""
    logit_scale: float = Field(default=1.0, gt=0)
    """What the head's scores are multiplied by, before they are bent below `logit_softcap`."""
    logit_softcap: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> "ModelConfig":
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads={self.num_key_value_heads}"
            )
        if self.num_experts_per_tok > self.num_experts:
            raise ValueError(f"num_experts_per_tok={self.num_experts_per_tok} exceeds num_experts={self.num_experts}")
        if self.num_experts % self.num_expert_groups or self.topk_groups > self.num_expert_groups:
            raise ValueError(
                f"num_expert_groups={self.num_expert_groups} must divide num_experts={self.num_experts} and be at "
                f"least topk_groups={self.topk_groups}"
            )
        if self.num_experts_per_tok > self.num_experts * self.topk_groups // self.num_expert_groups:
            raise ValueError(
                f"num_experts_per_tok={self.num_experts_per_tok} exceeds the experts of topk_groups={self.topk_groups}"
            )
        if self.latent and self.head_dim != self.latent.qk_nope_head_dim + self.latent.qk_rope_head_dim:
            raise ValueError(f"head_dim={self.head_dim} is not qk_nope_head_dim + qk_rope_head_dim")
        if self.num_dense_layers > self.num_hidden_layers:
            raise ValueError(
                f"num_dense_layers={self.num_dense_layers} exceeds num_hidden_layers={self.num_hidden_layers}"
            )
        return self

    def layer_type(self, layer: int) -> LayerType:
        """Every n-th layer attends to everything, the others to a window if there is one."""
        sliding = self.sliding_window is not None and (layer + 1) % self.global_attn_every_n_layers
        return "sliding_attention" if sliding else "full_attention"

    @property
    def slides(self) -> bool:
        """Whether any layer has a window."""
        return any(self.layer_type(layer) == "sliding_attention" for layer in range(self.num_hidden_layers))

    def attention_span(self, layer: int) -> int:
        """How many tokens a token of this layer may see, itself included."""
        return self.window if self.layer_type(layer) == "sliding_attention" else self.max_position_embeddings

    @property
    def rotary_dim(self) -> int:
        """Numbers of a query or key that positions turn."""
        return self.latent.qk_rope_head_dim if self.latent else self.head_dim

    @property
    def attention_scale(self) -> float:
        """What products of queries and keys are multiplied by."""
        stretch = self.yarn.latent_scale if self.latent and self.yarn else 1.0
        return stretch * self.head_dim**-0.5

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Heads, and the sizes of a key and a value, that are kept of each token and layer.

        Latent attention keeps one key for all heads, whose beginning is the value: no value is kept besides.
        """
        if self.latent:
            return 1, self.latent.kv_lora_rank + self.latent.qk_rope_head_dim, 0
        return self.num_key_value_heads, self.head_dim, self.head_dim

    @property
    def window(self) -> int:
        """How many tokens a sliding layer sees."""
        return self.sliding_window or self.max_position_embeddings

    def uses_rope(self, layer: int) -> bool:
        """Whether a layer applies RoPE."""
        return self.rope_layers == "all" or self.layer_type(layer) == "sliding_attention"

    def is_moe(self, layer: int) -> bool:
        """The first `num_dense_layers` have one dense feed-forward in place of experts."""
        return layer >= self.num_dense_layers
