"""What a GPU holds at the peak of a training step, by kind, over columns of runs; of weights that FSDP spreads, as in
torch, see `memory_fsdp`.

Activations are counted as they are kept for the gradient with flash attention and sequence parallelism
(2205.05198, section 4, without the scores); a 1F1B pipeline keeps as many micro-batches as it has stages left.
"""

import numpy as np

from troth.plan.memory_fsdp import fsdp_parts
from troth.plan.run import CHEAP, Array, Columns

KINDS = ("weights", "gathered", "gradients", "optimizer", "activations", "logits", "buffers", "context")
"""gathered: weights that FSDP has brought together for a layer; context: what is no tensor's."""

CONTEXT = 4e9
"""Bytes that the driver, communicators and libraries keep for themselves, and what allocation loses; torchtitan counts
what its allocator has."""


ROOM = 0.95
"""Share of a GPU's memory that a run may fill."""


def memory_parts(c: Columns) -> dict[str, Array]:
    """Bytes of a GPU by kind, for every run; on the stage that holds most."""
    spread = (c.sharded > 0) & (c.torch > 0)
    ours, others = fsdp_parts(c), _megatron_parts(c)
    parts = {kind: np.where(spread, ours.get(kind, 0), others.get(kind, 0)) for kind in KINDS}
    return parts | {"context": np.where(c.titan > 0, 0, CONTEXT)}


def _megatron_parts(c: Columns) -> dict[str, Array]:
    sharded = c.sharded > 0
    halved = c.table_parameters / c.tp * (1 / c.pp - np.where(c.pp > 1, 0.5, 1))  # a stage has the table or the head
    dense = c.dense_held - halved
    whole = dense + c.expert_held
    spread = dense / c.dense_ranks + c.expert_held / c.expert_ranks
    shares = spread * c.dp_replicate
    largest = c.attention_parameters / c.tp + np.maximum(
        c.matrices * c.hidden * np.maximum(c.dense_ffn, c.shared_ffn) / c.tp,
        c.experts / c.ep * c.expert_parameters / c.etp,
    )
    kept = c.t / c.tp * _kept(c, c.recompute)
    working = np.where(c.recompute > 0, c.t / c.tp * _kept(c, np.zeros_like(c.t)) - kept, 0)
    flying = np.where(c.pp > 1, c.pp * (1 + (c.pp - 1) / (c.pp * c.vpp) * (c.vpp > 1)), 1.0)
    flying = np.minimum(flying, np.maximum(c.m, 1))
    return {
        "weights": np.where(sharded, 4 * shares, 2 * whole),
        "gradients": np.where(sharded, 4 * shares, 2 * whole),
        "optimizer": np.where(sharded, 8 * shares, 12 * spread),
        "activations": c.layers / c.pp * flying * kept + working,
        "logits": c.t * c.vocab / c.tp * 8,
        "buffers": np.where(sharded, 8 * largest, 0),
    }


def memory_bytes(c: Columns) -> Array:
    """Bytes of a GPU in all."""
    return np.asarray(sum(memory_parts(c).values()))


def least_recompute(c: Columns) -> Array:
    """The smallest share of the forward pass to do again with which a run fits into `ROOM` of a GPU's memory; 1 where
    even that is too little."""
    none, some, most = (memory_bytes(c.with_recompute(np.full(len(c), share))) for share in (0.0, CHEAP, 1.0))
    limit = ROOM * c.gpu_memory
    first = CHEAP * np.clip((none - limit) / np.maximum(none - some, 1), 0, 1)
    return np.asarray(first + (1 - CHEAP) * np.clip((some - limit) / np.maximum(some - most, 1), 0, 1))


def _kept(c: Columns, again: Array) -> Array:
    """Bytes that a token leaves behind in a layer, the mean over layers: what products, norms and gates read again.
    Inputs of products in 8 or 4 bits are kept in 8. `again` as in `Run.recompute`."""
    moe = c.moe_layers / c.layers
    gates = (1 - moe) * c.dense_ffn + moe * (c.shared_ffn + c.topk * c.moe_ffn)
    routed = moe * c.topk * c.hidden
    cheap = np.where(c.bytes < 2, 1, 2) * (2 * c.hidden + gates + routed) + 2 * routed
    dear = 2 * (c.attention_edges - c.hidden + (c.matrices - 1) * gates)
    kept = cheap * (1 - np.minimum(again / CHEAP, 1)) + dear * (1 - np.maximum(again - CHEAP, 0) / (1 - CHEAP))
    return np.asarray(2 * c.hidden + kept)
