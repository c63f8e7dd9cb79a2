"""What Muon (Jordan et al., 2024; `train.optim`) holds beside weights and momentum while it moves a rank's matrices."""

import numpy as np

from troth.plan.memory_rank import Place
from troth.plan.run import Array, Columns

ROUND_BYTES = 2**25
"""Of the matrices that are orthogonalised at a time."""


def muon_room(c: Columns, at: Place, shares: Array) -> Array:
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
