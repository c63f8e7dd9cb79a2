"""What one rank of a pipeline has of a network: its layers, what is in flight through them, its share of weights."""

from dataclasses import dataclass

import numpy as np

from troth.plan.memory_layer import Layer, parameters_of
from troth.plan.run import Array, Columns


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


def places_of(c: Columns) -> list[Place]:
    """The first, a middle and the last rank; see `Layout.layers_of` and torch's schedules."""
    places = []
    for rank in (np.zeros_like(c.pp), c.pp // 2, c.pp - 1):
        stages = c.pp * c.vpp
        # Of layers that do not go up in stages those in the middle have one more.
        each, over = np.floor(c.layers / stages), c.layers % stages
        longer = (stages - over) // 2
        chunks = np.where(c.vpp > 1, (c.vpp - 1) * c.pp + 2 * (c.pp - rank - 1) + 1, c.pp - rank)
        chunks = np.where(c.pp > 1, np.minimum(chunks, c.m * c.vpp), 1.0)
        dense, flying_dense, moe, flying_moe = (np.zeros_like(c.pp) for _ in range(4))
        for turn in range(int(c.vpp.max(initial=1))):
            stage = turn * c.pp + rank
            first, last = (each * n + np.clip(n - longer, 0, over) for n in (stage, stage + 1))
            last = np.where(turn < c.vpp, last, first)
            here = np.clip(c.layers - c.moe_layers - first, 0, last - first)
            ahead = c.ahead * ((rank == c.pp - 1) & (turn == c.vpp - 1))
            # As many micro-batches as stages go through a rank's first chunk of layers, then through its second.
            turns = chunks // stages * c.pp + np.clip(chunks % stages - turn * c.pp, 0, c.pp)
            dense, flying_dense = dense + here, flying_dense + here * turns
            more = last - first - here + ahead
            moe, flying_moe = moe + more, flying_moe + more * turns
        exchanged = c.m * c.vpp * ((c.pp > 1) * 2.0 - ((rank == 0) | (rank == c.pp - 1)) * (c.pp > 1) / c.vpp)
        places.append(Place(
            dense, moe, (rank == 0) * 1.0, (rank == c.pp - 1) * 1.0, chunks / c.vpp, flying_dense, flying_moe,
            exchanged,
        ))  # fmt: skip
    return places


def share_of(c: Columns, at: Place, dense: Layer, moe: Layer) -> Share:
    """What the rank has to do with; the layers are as it has them."""
    shares = c.dp * c.cp * c.tp / c.dp_replicate
    alone = (c.world == c.pp) * 1.0
    # Modules of multi-token prediction have the embedding beside them and a matrix of their own.
    table, joining = np.maximum(at.table, at.head * (c.ahead > 0)), at.head * c.ahead * 2 * c.hidden**2
    tables = c.vocab * c.hidden * np.where(c.tied > 0, np.maximum(table, at.head), table + at.head) + joining
    own_tables = tables / np.where(c.titan > 0, c.tp, 1)
    routers = at.moe_layers * c.hidden * c.experts
    matrices = at.dense_layers * parameters_of(c, moe=False) + at.moe_layers * parameters_of(c, moe=True) - routers
    layer = np.where(at.moe_layers > 0, moe.dense + moe.routed, dense.dense + dense.routed)
    own = at.dense_layers * dense.dense + at.moe_layers * (moe.dense + moe.routed) + own_tables
    pipelined = (c.pp > 1) & (alone == 0)
    # torchtitan's pipelines leave weights together.
    staying = pipelined & (c.titan > 0)
    spread = (matrices + routers + tables) / shares
    matrices = matrices + joining
    return Share(shares, alone, tables, own_tables, matrices, spread, own, layer, pipelined, staying)
