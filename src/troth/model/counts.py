"""Exact parameter counts from the dimensions alone, without building the network. Imports no torch."""

from dataclasses import dataclass

from troth.model.config import ModelConfig


@dataclass(frozen=True)
class Counts:
    """Parameters of a network; `active` are those that work on one token (embedding row look-ups count whole)."""

    total: int
    active: int


def count_parameters(config: ModelConfig) -> Counts:
    """Trainable parameters: embeddings, attention with its gate and norms, feed-forwards, router, head."""
    c = config
    attention = c.hidden_size * c.head_dim * (3 * c.num_attention_heads + 2 * c.num_key_value_heads) + 2 * c.head_dim
    norms = 4 * c.hidden_size
    dense = 3 * c.hidden_size * c.intermediate_size
    expert = 3 * c.hidden_size * c.moe_intermediate_size
    router = c.hidden_size * c.num_experts
    moe_layers = c.num_hidden_layers - c.num_dense_layers
    outside = c.vocab_size * c.hidden_size * (1 if c.tie_word_embeddings else 2) + c.hidden_size
    common = outside + c.num_hidden_layers * (attention + norms) + c.num_dense_layers * dense
    common += moe_layers * (router + c.num_shared_experts * expert)
    return Counts(
        total=common + moe_layers * c.num_experts * expert,
        active=common + moe_layers * c.num_experts_per_tok * expert,
    )
