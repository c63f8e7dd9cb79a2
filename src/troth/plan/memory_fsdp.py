"""What a rank of Troth's own trainer holds at the peak of a step, by kind: weights in float32 spread by FSDP, products
in bf16, Muon, layers as `troth.model` computes them. Every byte is one that `troth train --dry-run` counts. Where
torchtitan is known to differ, `titan` says so.

The peak is at one of a few moments, all of which are computed, on the first, a middle and the last rank of a pipeline.
"""

from dataclasses import dataclass

import numpy as np

from troth.plan.run import CHEAP, Array, Columns

CHUNK_BYTES, LEAST_ROWS = 2**26, 128
"""Of the scores over the vocabulary that are there at a time (`train.loss`)."""

LOGIT_BYTES, COMPILED_LOGIT_BYTES = 16, 4
"""Of a score where the loss is not computed in chunks: its softmax's logarithm, the gradient of that, its exponential
and the gradient of the score, in float32; and where the loss is compiled, the score and its gradient in 16 bits."""

COMPILED_LOSS = 2025.25
"""Since then torchtitan compiles its loss (its commits of December 2024 and April 2025)."""

ROUND_BYTES = 2**25
"""Of the matrices that Muon orthogonalises at a time (`train.optim`)."""

NEAR_CHUNKS = 3
"""Chunks of a rank whose weights torch's pipelines keep together."""

Parts = dict[str, Array]


@dataclass(frozen=True)
class Layer:
    """Bytes of one layer and one micro-batch. kept: what the backward pass finds without recomputation; products: with
    selective; passing: what is there for a moment beside it. dense and routed: its parameters on a rank whose weights
    are gathered."""

    kept: Array
    products: Array
    passing: Array
    dense: Array
    routed: Array


@dataclass(frozen=True)
class Place:
    """A rank of a pipeline: its layers, whether it has embedding and head (0 or 1), how many micro-batches' worth of
    activations it has at most, in all and summed over layers of either kind, and tensors that it sends or receives."""

    dense_layers: Array
    moe_layers: Array
    table: Array
    head: Array
    flying: Array
    flying_dense: Array
    flying_moe: Array
    exchanged: Array


def fsdp_parts(c: Columns) -> Parts:
    """Bytes by kind on the rank that holds most, for every run."""
    return most([_worst_moment(c, place) for place in _places(c)])


def most(choices: list[Parts]) -> Parts:
    """For every run the choice with the largest sum."""
    best = np.argmax([np.sum(list(choice.values()), axis=0) for choice in choices], axis=0)
    return {kind: np.choose(best, [choice[kind] for choice in choices]) for kind in choices[0]}


def _places(c: Columns) -> list[Place]:
    """The first, a middle and the last rank; see `Layout.layers_of` and torch's schedules."""
    places = []
    for rank in (np.zeros_like(c.pp), c.pp // 2, c.pp - 1):
        stages = c.pp * c.vpp
        # Of layers that do not go up in stages the middle ones have one more.
        each, over = np.floor(c.layers / stages), c.layers % stages
        longer = (rank > 0) & (rank < c.pp - 1) & (over > 0)
        layers = np.where(longer, np.ceil(c.layers / stages), each) * c.vpp
        layers = np.where(c.pp > 1, layers, c.layers) + c.ahead * (rank == c.pp - 1)
        chunks = np.where(c.vpp > 1, (c.vpp - 1) * c.pp + 2 * (c.pp - rank - 1) + 1, c.pp - rank)
        chunks = np.where(c.pp > 1, np.minimum(chunks, c.m * c.vpp), 1.0)
        dense, flying_dense = np.zeros_like(layers), np.zeros_like(layers)
        for turn in range(int(c.vpp.max(initial=1))):
            first = (turn * c.pp + rank) * each
            here = np.where(turn < c.vpp, np.clip(c.layers - c.moe_layers - first, 0, layers / c.vpp), 0)
            # As many micro-batches as stages go through a rank's first chunk of layers, then through its second.
            turns = chunks // stages * c.pp + np.clip(chunks % stages - turn * c.pp, 0, c.pp)
            dense, flying_dense = dense + here, flying_dense + here * turns
        exchanged = c.m * c.vpp * ((c.pp > 1) * 2.0 - ((rank == 0) | (rank == c.pp - 1)) * (c.pp > 1) / c.vpp)
        places.append(Place(
            dense, layers - dense, (rank == 0) * 1.0, (rank == c.pp - 1) * 1.0, chunks / c.vpp, flying_dense,
            chunks / c.vpp * layers - flying_dense, exchanged,
        ))  # fmt: skip
    return places


def _worst_moment(c: Columns, at: Place) -> Parts:
    shares = c.dp * c.cp * c.tp / c.dp_replicate
    alone = (c.world == c.pp) * 1.0
    u = c.t / c.tp
    dense, moe = _layer(c, moe=False), _layer(c, moe=True)
    tables = c.vocab * c.hidden * np.where(c.tied > 0, np.maximum(at.table, at.head), at.table + at.head)
    own_tables = tables / np.where(c.titan > 0, c.tp, 1)
    routers = at.moe_layers * c.hidden * c.experts
    matrices = at.dense_layers * _parameters(c, moe=False) + at.moe_layers * _parameters(c, moe=True) - routers
    spread = (matrices + routers + tables) / shares
    muon = np.where(c.muon > 0, matrices / shares, 0)
    held = {"weights": 4 * spread, "optimizer": 4 * muon + 8 * (spread - muon)}

    a_layer = np.where(at.moe_layers > 0, 1.0, 0.0)

    def either(name: str) -> Array:
        """Of the layer that is being computed, one with experts where there is one."""
        return np.where(a_layer > 0, getattr(moe, name), getattr(dense, name))

    layer_kept = np.where(a_layer > 0, _kept(c, moe), _kept(c, dense))
    again = np.where(c.recompute > 0, either("kept") - layer_kept, 0)
    layer = either("dense") + either("routed")
    # The share of a rank's chunks that have gone backwards before its last forward pass.
    started = np.clip(np.ceil((c.m - at.flying) * c.vpp / c.pp), 0, c.vpp) / c.vpp
    pipelined = (c.pp > 1) & (alone == 0)
    own = at.dense_layers * dense.dense + at.moe_layers * (moe.dense + moe.routed) + own_tables
    gradients = np.where(pipelined, 4 * own, 4 * spread)
    batch = 24 * c.sequences / c.dp * c.length
    # Of one batch only, the first layer's gradients come last, and those of the tables behind them.
    first = np.where(at.moe_layers > 0, _parameters(c, moe=True), 0) + at.dense_layers * _parameters(c, moe=False)
    later = first + tables
    steady = np.where(c.pp > 1, started == 1, c.m > 1)
    coming = np.where(steady, 0, np.where(pipelined, 4 * (layer + own_tables), 4 * later / shares))
    cast = np.where(alone > 0, 2 * tables, 0)
    passing_between = at.exchanged * 2 * c.hidden * u
    # torchtitan's pipelines leave weights together, and their last rank the scores of all micro-batches. Its figures
    # are what the allocator has: blocks that one stream freed are none that others get, so that what gathers weights
    # and shares gradients out has its own: two layers' of each, and the parts of gradients.
    staying = pipelined & (c.titan > 0)
    outputs = np.where(staying, at.head * 2 * c.vocab * u * c.m, 0)
    streams = np.where(c.titan > 0, 2 * (2 + 4) * layer + 4 * spread, 0)
    standing = batch + passing_between + cast + outputs + streams
    # Of many chunks torch's schedules keep the next three's together: not the embedding's at the peak.
    near = np.where(c.vpp > NEAR_CHUNKS, at.head, 1)
    root = np.where(alone > 0, 0, 2 * np.where(staying, own, own_tables * near))
    one = np.where((alone > 0) | staying, 0, 2 * layer)
    # Micro-batches before this one have left gradients.
    left = np.where(
        c.pp > 1, 4 * ((own - own_tables) * started + own_tables * np.where(at.head > 0, started > 0, started == 1)),
        np.where(c.m > 1, gradients, 0),
    )  # fmt: skip
    rows = np.minimum(u, np.maximum(LEAST_ROWS, CHUNK_BYTES // (c.vocab * 2)))
    of_head = at.head * 2 * c.vocab * c.hidden / np.where(c.titan > 0, c.tp, 1)
    hidden = 2 * c.hidden * u
    whole_input = np.where((c.titan > 0) & (c.tp > 1), 2 * c.hidden * c.t, 0)
    zero = np.zeros_like(c.t)
    scores = np.where(c.date < COMPILED_LOSS, LOGIT_BYTES, COMPILED_LOGIT_BYTES)

    def moment(gradients: Array, activations: Array, buffers: Array, gathered: Array, logits: Array = zero) -> Parts:
        return held | {
            "gradients": gradients, "gathered": gathered, "activations": activations, "logits": logits,
            "buffers": standing + buffers,
        }  # fmt: skip

    full = at.flying_dense * _kept(c, dense) + at.flying_moe * _kept(c, moe)
    kept = (at.dense_layers * _kept(c, dense) + at.moe_layers * _kept(c, moe)) / c.vpp
    # Without a steady state only the first chunk's activations are left when its gradients come; pipelines share
    # gradients out with the last micro-batch.
    rest = np.where(steady, full, full / c.vpp) - kept
    shared_rest = np.where(pipelined, 0, rest)
    return most([
        # The layer that was computed last, forwards and backwards.
        moment(left + of_head, full + again, either("passing"), root + one),
        # The loss. What layers have freed lies between what they keep, and torchtitan's figures count it: for so many
        # scores at once it is no room.
        moment(
            left, full + at.head * (3 * hidden + whole_input),
            np.where(c.titan > 0, again, at.head * (6 * c.vocab * c.hidden + hidden)),
            # What came together for the last experts stays until something else does.
            root + np.where(shares > c.ep * c.etp, 2 * either("routed"), 0),
            at.head * np.where(c.titan > 0, scores * u, 4 * rows) * c.vocab,
        ),
        # The layer that was computed first, backwards.
        moment(
            gradients - coming + of_head, rest + layer_kept + again, either("passing"),
            root + np.where(pipelined & ~staying, 2 * (own - own_tables), one),
        ),
        # Its gradients, which are shared out in float32, and those of the layer before them.
        moment(gradients + 2 * layer + of_head, shared_rest, np.where(alone > 0, 0, 8 * layer), root + one),
        # Those of embedding and head.
        moment(
            gradients + 2 * own_tables, shared_rest,
            np.where(alone > 0, 2 * own_tables, 4 * own_tables + 4 * layer), root,
        ),
        moment(gradients, zero, np.where(c.muon > 0, _muon(c, at, shares), 0), zero),
    ])  # fmt: skip


def _muon(c: Columns, at: Place, shares: Array) -> Array:
    """Room of a round, for matrices of the shape that takes most: in float32 what they move by, in bf16 two copies and
    two products with themselves. Matrices that ranks have parts of are whole, and on their way, in float32 besides."""

    def room(matrix: Array, count: Array, narrow: Array, parted: Array) -> Array:
        taken = np.minimum(np.maximum(4 * matrix, ROUND_BYTES), 4 * matrix * count / shares)
        return np.asarray(taken * (2 + narrow + 2 * parted))

    def narrow(ffn: Array) -> Array:
        return np.divide(np.minimum(c.hidden, ffn), np.maximum(np.maximum(c.hidden, ffn), 1), dtype=np.float64)

    whole = c.experts / c.ep >= shares / (c.ep * c.etp)
    parted, wholly = (np.asarray(x, dtype=np.float64) for x in (shares > 1, whole))
    queries = c.heads * c.head_dim
    layers = at.dense_layers + at.moe_layers
    return np.maximum.reduce([
        room(c.hidden * c.moe_ffn, 2 * at.moe_layers * c.experts, narrow(c.moe_ffn), 1 - wholly),
        room(c.hidden * c.dense_ffn, 2 * at.dense_layers, narrow(c.dense_ffn), parted),
        room(c.hidden * queries, (1 + c.attention_gate) * layers, narrow(queries), parted),
    ])  # fmt: skip


def _parameters(c: Columns, *, moe: bool) -> Array:
    """Of a layer in all."""
    if moe:
        return (
            c.attention_parameters + c.matrices * c.hidden * c.shared_ffn + c.hidden * c.experts
            + c.experts * c.expert_parameters
        )  # fmt: skip
    return c.attention_parameters + c.matrices * c.hidden * c.dense_ffn


def _kept(c: Columns, layer: Layer) -> Array:
    """Bytes that a layer leaves for its backward pass, with checkpointing as `recompute` says."""
    entry = 2 * c.hidden * c.t / c.tp
    selective = layer.products + (layer.kept - layer.products) * (1 - np.minimum(c.recompute / CHEAP, 1))
    share = np.maximum(c.recompute - CHEAP, 0) / (1 - CHEAP)
    return np.asarray(selective * (1 - share) + entry * share)


def _layer(c: Columns, *, moe: bool) -> Layer:
    u, tp = c.t / c.tp, c.tp > 1
    hidden, gathered = 2 * c.hidden * u, np.where(tp, 2 * c.hidden * c.t, 0)
    queries, keys = 2 * c.heads * c.head_dim * u, 2 * c.kv_heads * c.head_dim * u
    alone = (c.world == c.pp) & True
    # Norms keep their input; those of a network on one rank, whose weights stay in float32, in float32.
    normed = hidden * (2 + 2 * c.post_norms) + c.qk_norm * (queries + keys)
    kept = normed * np.where(alone, 2, 1)
    kept = kept + np.where(tp, gathered, hidden)
    # torchtitan repeats keys and values for all heads before ranks of `cp` gather them.
    kept = kept + queries * (2 + 2 * c.attention_gate) + 2 * np.where(c.titan > 0, queries, keys) * c.cp
    kept = kept + 4 * u * (c.heads + c.qk_norm * (c.heads + c.kv_heads))
    kept = kept + c.rotated * 8 * c.head_dim * c.t
    products = hidden + queries * (1 + c.attention_gate) + 2 * keys + 2 * c.hidden * c.t
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
        held = c.experts * c.expert_parameters / (c.ep * c.etp)
        # At the exchange between ranks; and at the gates, backwards, beside gradients of the last matrix.
        exchange = row * np.where(c.ep > 1, 3 * c.etp, 2)
        gates = 4 * c.moe_ffn * routed - 2 * row + 2 * held / c.matrices + np.where(alone, 0, 4 * dense)
        passing = np.maximum(exchange, gates)
    else:
        inner = 2 * c.dense_ffn * u
        kept = kept + np.where(tp, gathered, hidden) + 4 * inner
        products = products + 2 * inner + 2 * c.hidden * c.t
        passing = 2 * inner + 2 * hidden + gathered
        dense = (c.attention_parameters + c.matrices * c.hidden * c.dense_ffn) / c.tp
        held = np.zeros_like(dense)
    # torchtitan keeps what attention returns, and every second product.
    products = np.where(c.titan > 0, hidden + queries + (products - hidden) / 2, products)
    # On one rank weights in bf16 are made for a layer and kept with the rest.
    return Layer(kept + np.where(alone, 2 * (dense + held), 0), products, passing, dense, held)
