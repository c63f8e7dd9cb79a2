"""How long a GPU computes for a micro-batch: products by operations over peak and bytes over memory bandwidth, norms,
gates and casts by bytes, and the host that starts their kernels."""

import numpy as np

from troth.plan.calibration import Calibration
from troth.plan.run import Array, Columns

NOW = 2026.0
"""The year that constants of software are given for."""

TILE = 128
"""Rows that a GPU multiplies at a time: of an expert's last ones half are empty in the mean."""

GRADIENT_BYTES = 4.0
"""Of a weight's gradient, 16 bits that a micro-batch reads and writes: what benchmarks set."""

LOGIT_BYTES = 28
"""Of a score over the vocabulary that products, softmax and its gradient read and write: 12 where a kernel does all of
these in 16 bits, and about 40 where scores in 32 bits are gone over step by step, as was usual."""

FUSED_ATTENTION = 2023.0
"""Since then trainers have FlashAttention (2205.14135), which keeps no scores."""

SCORE_BYTES = 45
"""Of a score where nothing is fused but its mask, scale and softmax: 13 that products, softmax and dropout write and
read in 16 bits, twice as it is computed again, and 19 backward."""

EXPONENTIAL = 128
"""Multiplications and additions that a score's exponential is worth, besides those of its products."""

GATE_PASSES = 10
"""Times that a feed-forward's inner numbers are read or written by its gate, both ways."""


def software(c: Columns, a_year: Array | float) -> Array:
    """How much longer than today what software does takes: `a_year` is the share gained in one."""
    return np.asarray(np.exp(a_year * (NOW - c.date)))


def compute_seconds(c: Columns, k: Calibration) -> dict[str, Array]:
    """Seconds of a micro-batch on one GPU, both ways: its share of the layers, their tokens and their matrices."""
    layers, moe, dense = c.stage_layers, c.stage_moe, c.stage_layers - c.stage_moe
    memory = c.memory_bandwidth * k.bandwidth
    rate = products_rate(c, k)

    def products(work: Array, weights: Array, edges: Array, size: Array = c.bytes) -> Array:
        """work: multiplications a token; weights: parameters in memory, read in every pass but the one that adds up
        their gradients; edges: numbers that a token brings and takes, of `size` bytes."""
        passes = 3 + c.products_again
        moved = weights * ((passes - 1) * size + GRADIENT_BYTES) + passes * c.t * edges * size
        return np.asarray(passes * 2 * c.t * work / rate + moved / memory)

    attention = c.attention_parameters / c.tp
    feed_forward = c.matrices * c.hidden * c.dense_ffn / c.tp
    shared = c.matrices * c.hidden * c.shared_ffn / c.tp
    rows = c.topk * c.etp / c.tp  # tokens that the experts of a rank get, for each of the micro-batch's
    held = c.experts / c.ep * c.expert_parameters / c.etp
    of_each = c.t * rows * c.ep / np.maximum(c.experts, 1)  # rows that an expert gets
    slow = np.where(c.wide_experts > 0, rate / wide_rate(c, k), 1) * (1 + TILE / 2 / np.maximum(of_each, 1))
    size = np.where(c.wide_experts > 0, np.maximum(c.bytes, 2), c.bytes)
    head = 6 * c.t * c.hidden * c.vocab / c.tp / wide_rate(c, k) + LOGIT_BYTES * c.t * c.vocab / c.tp / memory
    parts = {
        "attention layers": layers * products(attention, attention, c.attention_edges / c.tp),
        "feed-forwards": dense * products(feed_forward, feed_forward, c.matrices * (c.hidden + c.dense_ffn) / c.tp)
        + moe * products(shared, shared, c.matrices * (c.hidden + c.shared_ffn) / c.tp * (c.shared_ffn > 0)),
        "experts": moe * products(
            rows * c.expert_parameters / c.etp * slow, held, rows * c.matrices * (c.hidden + c.moe_ffn / c.etp), size
        ),
        "attention": layers * _scores(c, k),
        "pointwise": _pointwise(c, k) / memory,
        "permuting": _permuting(c, k) / memory,
    }  # fmt: skip
    # A pipeline's last stage has the head, and some of the layers fewer by which the others are longer than the mean.
    layer = np.asarray(sum(parts.values())) / layers
    return parts | {"head": np.maximum(head * (1 + c.ahead) - c.spared * layer, 0)}


def host_seconds(c: Columns, k: Calibration, gpu: Array) -> Array:
    """Seconds of a micro-batch in which a GPU that has `gpu` seconds of work waits for the host to start it; neither
    hides behind the other entirely."""
    starts = c.stage_layers * k.dense_layer * software(c, k.progress) * (1 + c.products_again / 3) * (1 - c.graphed)
    waits = c.stage_moe * k.expert * c.experts / c.ep * software(c, k.progress)
    host = (starts + waits) * (1 - c.captured)
    host = host * (1 + c.overlap)  # to overlap micro-batches, their parts are started one after another
    return np.asarray((gpu**2 + host**2) ** 0.5 - gpu)


def products_rate(c: Columns, k: Calibration) -> Array:
    """Operations a second of large products in the run's precision."""
    narrow = k.blackwell_float4 * (c.bytes < 1) + k.blackwell_float8 * (c.bytes == 1) + k.blackwell_bf16 * (c.bytes > 1)
    hopper = k.hopper_float8 * (c.bytes <= 1) + k.hopper_bf16 * (c.bytes > 1)
    share = c.ampere * k.ampere_bf16 + c.hopper * hopper + c.blackwell * narrow
    return np.asarray(c.peak * c.cooled * share / _young(c, k.maturing))


def wide_rate(c: Columns, k: Calibration) -> Array:
    """The same of products that stay in 16 bits."""
    share = c.ampere * k.ampere_bf16 + c.hopper * k.hopper_bf16 + c.blackwell * k.blackwell_bf16
    return np.asarray(c.wide_peak * c.cooled * share)


def _young(c: Columns, lost: Array | float) -> Array:
    """How much longer kernels take that were written for a GPU a short while ago: half of the loss goes each year."""
    return np.asarray(1 + lost * 2.0 ** (c.since - c.date))


def _scores(c: Columns, k: Calibration) -> Array:
    """Seconds of a layer's products of queries, keys and values; backward they take two and a half times as long."""
    share = c.ampere * k.ampere_attention + c.hopper * k.hopper_attention + c.blackwell * k.blackwell_attention
    share = share * np.where(c.torch > 0, np.minimum(k.torch_attention / software(c, k.torch_progress), 1), 1)
    sizes = (c.score_sizes + EXPONENTIAL / c.exponentials) * 2 / 3
    work = (3.5 + c.products_again) * 2 * c.t * c.heads / c.tp * sizes * c.seen
    fused = work / (c.wide_peak * c.cooled * share)
    # Before, scores went through memory, masked ones too, and were computed again: they took more of it than all else.
    scores = c.t * c.heads / c.tp * c.length
    stepwise = scores * (4 * 2 * c.score_sizes / wide_rate(c, k) + SCORE_BYTES / (c.memory_bandwidth * k.bandwidth))
    return np.asarray(np.where(c.date < FUSED_ATTENTION, stepwise, fused))


def _pointwise(c: Columns, k: Calibration) -> Array:
    """Bytes that norms, residuals, rotations, gates and casts move in a micro-batch, fused where that is usual: reads
    and writes of 16-bit numbers, forward and backward."""
    layers, moe, dense = c.stage_layers, c.stage_moe, c.stage_layers - c.stage_moe
    numbers = layers * (26 * c.hidden + 4 * c.attention_edges)
    numbers = numbers + (GATE_PASSES + c.bounds) * (dense * c.dense_ffn + moe * c.shared_ffn)
    casts = layers * c.attention_edges + c.matrices * (dense * (c.hidden + c.dense_ffn) + moe * c.shared_ffn)
    moved = 2 * software(c, k.progress) * numbers * (1 + c.pointwise_again / 3)
    return np.asarray(c.t / c.tp * (moved + _cast_bytes(c) * casts))


def _permuting(c: Columns, k: Calibration) -> Array:
    """The same of what experts get and give: tokens permuted and brought together again, gates, casts."""
    copies = c.stage_moe * c.topk * c.t / c.tp
    gates = (GATE_PASSES * (1 - c.captured) + c.bounds) * c.moe_ffn * (1 + c.pointwise_again / 3)
    moved = 2 * k.routed * software(c, k.progress) * (8 * c.hidden * (1 + c.products_again / 3) + gates)
    casts = c.matrices * (c.hidden + c.moe_ffn) * (1 - c.captured) * (1 - c.wide_experts)
    # Products in 8 bits want rows in groups of 16 or 32: what is exchanged is copied once more to be padded and back,
    # both ways, but by kernels that send once, which do so on the way.
    padded = 16 * c.hidden * (1 - c.sends_once) * (1 - c.captured) * (1 - c.wide_experts) * (c.bytes < 2)
    return np.asarray(copies * (moved + padded + _cast_bytes(c) * casts))


def _cast_bytes(c: Columns) -> Array:
    """Bytes that move for each number that is cast to 8 or 4 bits, which products need in rows and in columns. With a
    scale for its tensor it is read for the scale, read and written, and read and written once more to be transposed;
    with scales of blocks it is read once and written in both orders."""
    return np.asarray((7 * c.hopper + 4 * c.blackwell) * (c.bytes < 2) * (1 + c.products_again / 3))
