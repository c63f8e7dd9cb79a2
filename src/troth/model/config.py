"""The shape of a network, in the field's own names (those of a Hugging Face config.json). Imports no torch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LayerType = Literal["sliding_attention", "full_attention"]


class ModelConfig(BaseModel):
    """Dimensions and switches of a decoder of the native family (AFMoE).

    Sizes are counts; `sliding_window` is in tokens and includes the token itself. `vocab_size` counts every row of
    the embedding, special tokens included. Raises pydantic's ValidationError (a ValueError) where they do not fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    num_shared_experts: int = Field(gt=0)
    route_scale: float = Field(default=1.0, gt=0)
    sliding_window: int = Field(gt=0)
    global_attn_every_n_layers: int = Field(default=4, gt=0)
    max_position_embeddings: int = Field(gt=0)
    rope_theta: float = Field(default=10_000.0, gt=0)
    rms_norm_eps: float = Field(default=1e-5, gt=0)
    initializer_range: float = Field(default=0.02, gt=0)
    mup_enabled: bool = True
    tie_word_embeddings: bool = False

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
        """Every n-th layer attends to everything without positions; the others to a window, with RoPE."""
        return "sliding_attention" if (layer + 1) % self.global_attn_every_n_layers else "full_attention"

    def is_moe(self, layer: int) -> bool:
        """The first `num_dense_layers` have one dense feed-forward in place of experts."""
        return layer >= self.num_dense_layers
