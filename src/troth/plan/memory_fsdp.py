"""What a rank of Troth's own trainer holds at the peak of a step, by kind: weights in float32 spread by FSDP, products
in bf16, Muon, layers as `troth.model` computes them. Every byte is one that `troth train --dry-run` counts. Where
torchtitan is known to differ, `titan` says so.

The peak is at one of a few moments, all of which are computed, on the first, a middle and the last rank of a pipeline.
"""

from dataclasses import dataclass

import numpy as np

from troth.plan.memory_layer import Layer, kept_by, layer_of, parameters_of
from troth.plan.run import Array, Columns

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


@dataclass(frozen=True)
class Share:
    """What a rank has to do with of the network, in parameters. Its weights are one of so many `shares`, or it is
    `alone` (0 or 1). `tables` are embedding and head, `own_tables` as they are where they are gathered; `matrices` all
    other weights but routers; `spread` its part of all; `own` all of its layers and tables gathered, of which `layer`
    is one. `pipelined` with others, and with weights that are `staying` together through the step."""

    shares: Array
    alone: Array
    tables: Array
    own_tables: Array
    matrices: Array
    spread: Array
    own: Array
    layer: Array
    pipelined: np.ndarray
    staying: np.ndarray


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


def _share(c: Columns, at: Place, dense: Layer, moe: Layer) -> Share:
    shares = c.dp * c.cp * c.tp / c.dp_replicate
    alone = (c.world == c.pp) * 1.0
    tables = c.vocab * c.hidden * np.where(c.tied > 0, np.maximum(at.table, at.head), at.table + at.head)
    own_tables = tables / np.where(c.titan > 0, c.tp, 1)
    routers = at.moe_layers * c.hidden * c.experts
    matrices = at.dense_layers * parameters_of(c, moe=False) + at.moe_layers * parameters_of(c, moe=True) - routers
    layer = np.where(at.moe_layers > 0, moe.dense + moe.routed, dense.dense + dense.routed)
    own = at.dense_layers * dense.dense + at.moe_layers * (moe.dense + moe.routed) + own_tables
    pipelined = (c.pp > 1) & (alone == 0)
    # torchtitan's pipelines leave weights together.
    staying = pipelined & (c.titan > 0)
    spread = (matrices + routers + tables) / shares
    return Share(shares, alone, tables, own_tables, matrices, spread, own, layer, pipelined, staying)


def _held(c: Columns, of: Share) -> Parts:
    muon = np.where(c.muon > 0, of.matrices / of.shares, 0)
    return {"weights": 4 * of.spread, "optimizer": 4 * muon + 8 * (of.spread - muon)}


def _gradients(c: Columns, at: Place, of: Share) -> tuple[Array, Array, Array]:
    """When all are there; of these what comes last; and what micro-batches before this one have left."""
    gradients = np.where(of.pipelined, 4 * of.own, 4 * of.spread)
    # Of one batch only, the first layer's gradients come last, and those of the tables behind them.
    first = np.where(at.moe_layers > 0, parameters_of(c, moe=True), 0) + at.dense_layers * parameters_of(c, moe=False)
    later = first + of.tables
    started = _started(c, at)
    coming = np.where(
        _steady(c, at), 0, np.where(of.pipelined, 4 * (of.layer + of.own_tables), 4 * later / of.shares)
    )
    left = np.where(
        c.pp > 1,
        4 * ((of.own - of.own_tables) * started + of.own_tables * np.where(at.head > 0, started > 0, started == 1)),
        np.where(c.m > 1, gradients, 0),
    )
    return gradients, coming, left


def _started(c: Columns, at: Place) -> Array:
    """The share of a rank's chunks that have gone backwards before its last forward pass."""
    return np.asarray(np.clip(np.ceil((c.m - at.flying) * c.vpp / c.pp), 0, c.vpp) / c.vpp)


def _steady(c: Columns, at: Place) -> Array:
    return np.where(c.pp > 1, _started(c, at) == 1, c.m > 1)


def _standing(c: Columns, at: Place, of: Share) -> Array:
    """Buffers that are there all the time."""
    u = c.t / c.tp
    batch = 24 * c.sequences / c.dp * c.length
    cast = np.where(of.alone > 0, 2 * of.tables, 0)
    passing_between = at.exchanged * 2 * c.hidden * u
    # The last rank of torchtitan's pipelines leaves the scores of all micro-batches. Its figures are what the allocator
    # has: blocks that one stream freed are none that others get, so that what gathers weights and shares gradients out
    # has its own: two layers' of each, and the parts of gradients.
    outputs = np.where(of.staying, at.head * 2 * c.vocab * u * c.m, 0)
    streams = np.where(c.titan > 0, 2 * (2 + 4) * of.layer + 4 * of.spread, 0)
    return batch + passing_between + cast + outputs + streams


def _gathered(c: Columns, at: Place, of: Share) -> tuple[Array, Array]:
    """Weights that are whole for all of a step, and a layer's while it is computed."""
    # Of many chunks torch's schedules keep the next three's together: not the embedding's at the peak.
    near = np.where(c.vpp > NEAR_CHUNKS, at.head, 1)
    root = np.where(of.alone > 0, 0, 2 * np.where(of.staying, of.own, of.own_tables * near))
    return root, np.where((of.alone > 0) | of.staying, 0, 2 * of.layer)


def _worst_moment(c: Columns, at: Place) -> Parts:
    u = c.t / c.tp
    dense, moe = layer_of(c, moe=False), layer_of(c, moe=True)

    def either(name: str) -> Array:
        """Of the layer that is being computed, one with experts where there is one."""
        return np.where(at.moe_layers > 0, getattr(moe, name), getattr(dense, name))

    of = _share(c, at, dense, moe)
    held, standing = _held(c, of), _standing(c, at, of)
    gradients, coming, left = _gradients(c, at, of)
    root, one = _gathered(c, at, of)
    layer_kept = np.where(at.moe_layers > 0, kept_by(c, moe), kept_by(c, dense))
    again = np.where(c.recompute > 0, either("kept") - layer_kept, 0)
    full = at.flying_dense * kept_by(c, dense) + at.flying_moe * kept_by(c, moe)
    kept = (at.dense_layers * kept_by(c, dense) + at.moe_layers * kept_by(c, moe)) / c.vpp
    # Without a steady state only the first chunk's activations are left when its gradients come; pipelines share
    # gradients out with the last micro-batch.
    rest = np.where(_steady(c, at), full, full / c.vpp) - kept
    shared_rest = np.where(of.pipelined, 0, rest)
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

    return most([
        # The layer that was computed last, forwards and backwards.
        moment(left + of_head, full + again, either("passing"), root + one),
        # The loss. What layers have freed lies between what they keep, and torchtitan's figures count it: for so many
        # scores at once it is no room.
        moment(
            left, full + at.head * (3 * hidden + whole_input),
            np.where(c.titan > 0, again, at.head * (6 * c.vocab * c.hidden + hidden)),
            # What came together for the last experts stays until something else does.
            root + np.where(of.shares > c.ep * c.etp, 2 * either("routed"), 0),
            at.head * np.where(c.titan > 0, scores * u, 4 * rows) * c.vocab,
        ),
        # The layer that was computed first, backwards.
        moment(
            gradients - coming + of_head, rest + layer_kept + again, either("passing"),
            root + np.where(of.pipelined & ~of.staying, 2 * (of.own - of.own_tables), one),
        ),
        # Its gradients, which are shared out in float32, and those of the layer before them.
        moment(gradients + 2 * of.layer + of_head, shared_rest, np.where(of.alone > 0, 0, 8 * of.layer), root + one),
        # Those of embedding and head.
        moment(
            gradients + 2 * of.own_tables, shared_rest,
            np.where(of.alone > 0, 2 * of.own_tables, 4 * of.own_tables + 4 * of.layer), root,
        ),
        moment(gradients, zero, np.where(c.muon > 0, _muon(c, at, of.shares), 0), zero),
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
