"""The shape of a network, in the field's own names (those of a Hugging Face config.json). Imports no torch."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LayerType = Literal["sliding_attention", "full_attention"]


class Yarn(BaseModel):
    """How rotary positions are stretched from the length that a network was trained on (see `rope`).

    Rotations that turn more than `beta_fast` times within that length stay as they are, those that turn less than
    `beta_slow` times are slowed by `factor`. `attention_factor` multiplies queries and keys; the paper's where absent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    factor: float = Field(ge=1)
    original_max_position_embeddings: int = Field(gt=0)
    beta_fast: float = Field(default=32.0, gt=0)
    beta_slow: float = Field(default=1.0, gt=0)
    attention_factor: float | None = Field(default=None, gt=0)

    @property
    def scale(self) -> float:
        """What queries and keys are multiplied by (section 3.4)."""
        return 0.1 * math.log(self.factor) + 1 if self.attention_factor is None else self.attention_factor


class ModelConfig(BaseModel):
    """Dimensions and switches of a decoder; the switches' defaults are those of the native family (AFMoE).

    Sizes are counts; `sliding_window` is in tokens and includes the token itself, and without one every layer attends
    to everything. `vocab_size` counts every row of the embedding, special tokens included. Raises pydantic's
    ValidationError (a ValueError) where they do not fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: Literal["afmoe", "mixtral", "qwen3_moe", "olmoe"] = "afmoe"
    """The family whose Hugging Face layout the weights have on disk (see `families`)."""
    vocab_size: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    moe_intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
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

    @model_validator(mode="after")
    def _fits(self) -> "ModelConfig":
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads={self.num_key_value_heads}"
            )
        if self.num_experts_per_tok > self.num_experts:
            raise ValueError(f"num_experts_per_tok={self.num_experts_per_tok} exceeds num_experts={self.num_experts}")
        if self.num_dense_layers > self.num_hidden_layers:
            raise ValueError(
                f"num_dense_layers={self.num_dense_layers} exceeds num_hidden_layers={self.num_hidden_layers}"
            )
        return self

    def layer_type(self, layer: int) -> LayerType:
        """Every n-th layer attends to everything, the others to a window if there is one."""
        sliding = self.sliding_window is not None and (layer + 1) % self.global_attn_every_n_layers
        return "sliding_attention" if sliding else "full_attention"

    def attention_span(self, layer: int) -> int:
        """How many tokens a token of this layer may see, itself included."""
        return self.window if self.layer_type(layer) == "sliding_attention" else self.max_position_embeddings

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
