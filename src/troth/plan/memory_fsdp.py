"""What a rank of Troth's own trainer holds at the peak of a step, by kind: weights in float32 spread by FSDP, products
in bf16, Muon, layers as `troth.model` computes them. Every byte is one that `troth train --dry-run` counts. Where
torchtitan is known to differ, `titan` says so.

The peak is at one of a few moments, all of which are computed, on the first, a middle and the last rank of a pipeline.
"""

import numpy as np

from troth.plan.memory_layer import layer_of, parameters_of
from troth.plan.memory_moments import Parts, Step, most
from troth.plan.memory_rank import Place, Share, places_of, share_of
from troth.plan.run import Array, Columns


def fsdp_parts(c: Columns) -> Parts:
    """Bytes by kind on the rank that holds most, for every run."""
    return most([_worst(c, place) for place in places_of(c)])


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


def _worst(c: Columns, at: Place) -> Parts:
    """On one rank: the largest of the moments that its way of holding weights has."""
    dense, moe = layer_of(c, moe=False), layer_of(c, moe=True)
    of = share_of(c, at, dense, moe)
    held = _held(c, of) | {"buffers": _standing(c, at, of)}
    now = Step(c, at, of, dense, moe, held, *_gradients(c, at, of), _steady(c, at))
    common, ours = now.in_common(), (c.titan == 0) & (of.alone == 0)
    ways = [now.layer_by_layer(), now.in_a_pipeline(), now.at_the_ends()]
    spread, pipelined, other = (most([*common, *moments]) for moments in ways)
    return {kind: np.where(ours, np.where(c.pp > 1, pipelined[kind], spread[kind]), other[kind]) for kind in spread}
