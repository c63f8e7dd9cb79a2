"""What a network takes, from its dimensions alone: parameters, operations, cache and weights. Imports no torch.

Operations count two for a multiply and add, as in Kaplan et al. (2001.08361, section 2.1), products only: norms,
activations and the embedding's look-up are left out.
"""

from dataclasses import dataclass

from troth.model.config import ModelConfig

BYTES = {"float32": 4.0, "bfloat16": 2.0, "float8": 1.0, "4 bit": 0.5}
"""Bytes of a number by its dtype; scales of quantised ones are not counted."""


@dataclass(frozen=True)
class Counts:
    """Parameters; `active` are those that work on one token (the embedding counts whole, though one row is read)."""

    total: int
    active: int


def count_parts(config: ModelConfig) -> dict[str, Counts]:
    """Trainable parameters of each part of the network; parts that it does not have are left out.

    A head tied to the embedding is no part of its own.
    """
    c = config
    moe_layers = c.num_hidden_layers - c.num_dense_layers
    bias = 1 if c.biases else 0
    expert = 3 * c.hidden_size * c.moe_intermediate_size
    routed = expert + bias * (2 * c.moe_intermediate_size + c.hidden_size)
    attention, qk_norms = _latent(c) if c.latent else _grouped(c)
    parts = {
        "embedding": c.vocab_size * c.hidden_size,
        "attention": c.num_hidden_layers * attention,
        "dense feed-forward": c.num_dense_layers * 3 * c.hidden_size * c.intermediate_size,
        "shared experts": moe_layers * c.num_shared_experts * expert,
        "routed experts": moe_layers * c.num_experts * routed,
        "routers": moe_layers * (c.hidden_size + bias) * c.num_experts,
        "norms": c.num_hidden_layers * ((4 if c.post_norms else 2) * c.hidden_size + qk_norms) + c.hidden_size,
        "head": 0 if c.tie_word_embeddings else c.vocab_size * c.hidden_size,
    }
    working = parts | {"routed experts": moe_layers * c.num_experts_per_tok * routed}
    return {name: Counts(total, working[name]) for name, total in parts.items() if total}


def _grouped(c: ModelConfig) -> tuple[int, int]:
    """Parameters of a layer's attention, and of its norms inside."""
    query, key = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    size = c.hidden_size * ((3 if c.attention_gate else 2) * query + 2 * key)
    if c.biases:
        size += query + 2 * key + c.hidden_size
    if c.attention_sinks:
        size += c.num_attention_heads
    return size, {"head": 2 * c.head_dim, "width": query + key, "none": 0}[c.qk_norm]


def _latent(c: ModelConfig) -> tuple[int, int]:
    """The same for latent attention."""
    assert c.latent is not None
    sizes, heads = c.latent, c.num_attention_heads
    size = c.hidden_size * (sizes.kv_lora_rank + sizes.qk_rope_head_dim + heads * sizes.v_head_dim)
    size += sizes.kv_lora_rank * heads * (sizes.qk_nope_head_dim + sizes.v_head_dim)
    if sizes.q_lora_rank is None:
        return size + c.hidden_size * heads * c.head_dim, sizes.kv_lora_rank
    size += sizes.q_lora_rank * (c.hidden_size + heads * c.head_dim)
    return size, sizes.q_lora_rank + sizes.kv_lora_rank


def count_parameters(config: ModelConfig) -> Counts:
    """Trainable parameters of the whole network."""
    parts = count_parts(config).values()
    return Counts(sum(part.total for part in parts), sum(part.active for part in parts))


def forward_flops(config: ModelConfig, length: int) -> dict[str, float]:
    """Operations of a forward pass for one token, the mean over a sequence of `length` tokens, by part.

    Training takes three times as many: the backward pass computes gradients of both factors of each product.
    """
    c = config
    flops = {name: 2.0 * part.active for name, part in count_parts(c).items() if name not in ("embedding", "norms")}
    if c.tie_word_embeddings:
        flops["head"] = 2.0 * c.vocab_size * c.hidden_size
    seen = sum(_mean_seen(length, c.attention_span(layer)) for layer in range(c.num_hidden_layers))
    value_dim = c.latent.v_head_dim if c.latent else c.head_dim
    flops["attention products"] = 2 * c.num_attention_heads * (c.head_dim + value_dim) * seen
    return flops


def _mean_seen(length: int, span: int) -> float:
    """How many tokens a token sees, itself included, the mean over `length` positions."""
    near = min(length, span)
    return (near * (near + 1) / 2 + (length - near) * near) / length


def kv_cache_bytes(config: ModelConfig, length: int, bytes_per_number: float) -> float:
    """Bytes of the keys and values that a sequence of `length` tokens keeps; sliding layers keep their window only."""
    c = config
    kept = sum(min(length, c.attention_span(layer)) for layer in range(c.num_hidden_layers))
    heads, key_size, value_size = c.cache_shape
    return heads * (key_size + value_size) * kept * bytes_per_number
