"""What one layer of a network takes in memory while it is trained, as `troth.model` computes it."""

from dataclasses import dataclass

import numpy as np

from troth.plan.run import CHEAP, Array, Columns


@dataclass(frozen=True)
class Layer:
    """Bytes of one layer and one micro-batch. kept: what the backward pass finds without recomputation, `attention` of
    it in front of the feed-forward; products: with selective. What is there for a moment beside it: `passing` forwards,
    `returning` backwards. dense and routed: its parameters on a rank whose weights are gathered."""

    kept: Array
    attention: Array
    products: Array
    passing: Array
    returning: Array
    dense: Array
    routed: Array


def parameters_of(c: Columns, *, moe: bool) -> Array:
    """Of a layer in all; experts as if each rank that shares them had as many as the first."""
    if moe:
        return (
            c.attention_parameters + c.matrices * c.hidden * c.shared_ffn + c.hidden * c.experts
            + c.experts * c.expert_parameters * _filled_up(c)
        )  # fmt: skip
    return c.attention_parameters + c.matrices * c.hidden * c.dense_ffn


def _filled_up(c: Columns) -> Array:
    """FSDP shares whole experts out while each rank gets one: of 4 over 3 ranks the first has 2, as if there were 6."""
    here, ranks = c.experts / c.ep, c.expert_ranks / c.dp_replicate
    most = np.ceil(here / ranks) * ranks
    return np.asarray(np.where(here >= ranks, most / np.maximum(here, 1), 1))


def kept_by(c: Columns, layer: Layer) -> Array:
    """Bytes that a layer leaves for its backward pass, with checkpointing as `recompute` says."""
    entry = 2 * c.hidden * c.t / c.tp
    selective = layer.products + (layer.kept - layer.products) * (1 - np.minimum(c.recompute / CHEAP, 1))
    share = np.maximum(c.recompute - CHEAP, 0) / (1 - CHEAP)
    return np.asarray(selective * (1 - share) + entry * share)


def layer_of(c: Columns, *, moe: bool) -> Layer:
    """One of the layers with experts, or of those without."""
    u, tp = c.t / c.tp, c.tp > 1
    hidden, gathered = 2 * c.hidden * u, np.where(tp, 2 * c.hidden * c.t, 0)
    queries, keys = 2 * c.heads * c.head_dim * u, 2 * c.kv_heads * c.head_dim * u
    alone = (c.world == c.pp) & True
    # Norms keep their input; those of a network on one rank, whose weights stay in float32, in float32.
    # Over all heads together, ranks of `tp` compute norms in float32, in two steps.
    normed = hidden * (2 + 2 * c.post_norms) + (queries + keys) * np.where(c.qk_whole * tp, 4, c.qk_norm)
    kept = normed * np.where(alone, 2, 1)
    kept = kept + np.where(tp, gathered, hidden)
    # torchtitan repeats keys and values for all heads before ranks of `cp` gather them.
    kept = kept + queries * (2 + 2 * c.attention_gate) + 2 * np.where(c.titan > 0, queries, keys) * c.cp
    kept = kept + 4 * u * (c.heads + c.qk_norm * (c.heads + c.kv_heads))
    kept = kept + c.rotated * 8 * c.head_dim * c.t
    products = hidden + queries * (1 + c.attention_gate) + 2 * keys + 2 * c.hidden * c.t
    attention = kept
    if moe:
        routed = u * c.topk
        row = 2 * c.hidden * routed
        shared = 2 * c.shared_ffn * u
        has_shared = c.shared_ffn > 0
        kept = kept + hidden + np.where(has_shared, gathered, 0) + 4 * shared
        kept = kept + (2 + c.etp) * row + 8 * c.moe_ffn * routed
        kept = kept + 8 * routed * np.where(c.ep > 1, 5, 3) + 4 * c.experts * u
        products = products + 2 * c.experts * u + 4 * c.moe_ffn * routed + row * c.etp
        products = products + 2 * shared + np.where(has_shared, 2 * c.hidden * c.t, 0)
        dense = (c.attention_parameters + c.matrices * c.hidden * c.shared_ffn) / c.tp + c.hidden * c.experts
        held = c.experts * c.expert_parameters / (c.ep * c.etp) * _filled_up(c)
        # At the exchange between ranks; and at the gates, backwards, beside gradients of the last matrix.
        exchange = row * np.where(c.ep > 1, 3 * c.etp, 2)
        gates = 4 * c.moe_ffn * routed - 2 * row + 2 * held / c.matrices
        passing, returning = exchange, np.maximum(exchange, gates)
    else:
        inner = 2 * c.dense_ffn * u
        kept = kept + np.where(tp, gathered, hidden) + 4 * inner
        products = products + 2 * inner + 2 * c.hidden * c.t
        passing, returning = np.zeros_like(inner), 2 * inner + 2 * hidden + gathered
        dense = (c.attention_parameters + c.matrices * c.hidden * c.dense_ffn) / c.tp
        held = np.zeros_like(dense)
    # torchtitan keeps what attention returns, and every second product.
    products = np.where(c.titan > 0, hidden + queries + (products - hidden) / 2, products)
    # On one rank weights in bf16 are made for a layer and kept with the rest.
    cast = np.where(alone, 2 * (dense + held), 0)
    return Layer(kept + cast, attention + cast, products, passing, returning, dense, held)
