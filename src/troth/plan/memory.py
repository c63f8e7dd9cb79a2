"""What a GPU holds at the peak of a training step, by kind, over columns of runs.

Activations are counted as they are kept for the gradient with flash attention and sequence parallelism
(2205.05198, section 4, without the scores); a 1F1B pipeline keeps as many micro-batches as it has stages left.
"""

import numpy as np

from troth.plan.run import Array, Columns

KINDS = ("weights", "gradients", "optimizer", "activations", "logits", "buffers")

CHEAP = 0.1
"""Share of a layer's forward pass that is norms, gates and permutations: what is done again first, for it costs least."""

CONTEXT = 4e9
"""Bytes that the driver, communicators and libraries keep for themselves, and what allocation loses."""


def memory_parts(c: Columns) -> dict[str, Array]:
    """Bytes of a GPU by kind, for every run; on the stage that holds most."""
    dense = c.body_parameters / (c.pp * c.tp) + c.table_parameters / c.tp / np.where(c.pp > 1, 2, 1)
    experts = c.routed_parameters / (c.pp * c.ep * c.etp)
    dense_ranks, expert_ranks = c.dp * c.cp, np.maximum(c.dp * c.cp * c.tp / (c.ep * c.etp), 1)
    whole, spread = dense + experts, dense / dense_ranks + experts / expert_ranks
    sharded = c.sharded > 0
    largest = np.maximum(c.matrices * c.hidden * np.maximum(c.dense_ffn, c.shared_ffn) / c.tp,
                         c.experts / np.maximum(c.ep, 1) * c.expert_parameters / c.etp) + c.attention_parameters / c.tp  # fmt: skip
    kept = c.t / c.tp * _kept(c, c.recompute)
    working = np.where(c.recompute > 0, c.t / c.tp * _kept(c, np.zeros_like(c.t)) - kept, 0)
    flying = np.where(c.pp > 1, c.pp * (1 + (c.pp - 1) / (c.pp * c.vpp) * (c.vpp > 1)), 1.0)
    flying = np.minimum(flying, np.maximum(c.m, 1))
    activations = c.layers / c.pp * flying * kept + working
    return {
        "weights": np.where(sharded, 4 * spread, 2 * whole),
        "gradients": np.where(sharded, 4 * spread, 2 * whole),
        "optimizer": np.where(sharded, 8 * spread, 12 * spread),
        "activations": activations,
        "logits": c.t * c.vocab / c.tp * 8,
        "buffers": CONTEXT + np.where(sharded, 2 * 2 * 2 * largest, 0),
    }


def memory_bytes(c: Columns) -> Array:
    """Bytes of a GPU in all."""
    return np.asarray(sum(memory_parts(c).values()))


def _kept(c: Columns, again: Array) -> Array:
    """Bytes that a token leaves behind in a layer, the mean over layers: what products, norms and gates read again.
    Inputs of products in 8 or 4 bits are kept in 8. `again` as in `Run.recompute`."""
    moe = c.moe_layers / c.layers
    gates = (1 - moe) * c.dense_ffn + moe * (c.shared_ffn + c.topk * c.moe_ffn)
    cheap = np.where(c.bytes < 2, 1, 2) * (2 * c.hidden + gates + moe * c.topk * c.hidden) + 2 * moe * c.topk * c.hidden
    dear = 2 * (c.attention_edges - c.hidden + (c.matrices - 1) * gates)
    least = 2 * c.hidden
    return np.asarray(
        least + cheap * (1 - np.minimum(again / CHEAP, 1)) + dear * (1 - np.maximum(again - CHEAP, 0) / (1 - CHEAP))
    )


def least_recompute(c: Columns, room: float = 0.95) -> Array:
    """The smallest share of the forward pass to do again with which a run fits into `room` of a GPU's memory; 1 where
    even that is too little."""
    given, steps = c.recompute, np.array([0.0, CHEAP, 1.0])
    needed = []
    for share in steps:
        c.recompute = np.full_like(given, share)
        needed.append(memory_bytes(c))
    c.recompute = given
    none, some, all_ = needed
    limit = room * c.gpu_memory
    first = CHEAP * np.clip((none - limit) / np.maximum(none - some, 1), 0, 1)
    then = (1 - CHEAP) * np.clip((some - limit) / np.maximum(some - all_, 1), 0, 1)
    return np.asarray(first + then)
