"""How long a training step takes, and where its time goes: a sum of what each part of the machine has to do.

Products by operations over peak plus the bytes that they move over memory bandwidth; pointwise work by bytes;
collectives by bytes over links or network, less what products hide; a pipeline's bubble (2104.04473, section 2.2).
All of it is arithmetic over columns, so that a thousand layouts take as long as one.
"""

import numpy as np

from troth.plan.calibration import Calibration
from troth.plan.run import Array, Columns

PARTS = (
    "attention layers", "feed-forwards", "experts", "head", "attention", "pointwise", "kernel starts",
    "tensor traffic", "expert traffic", "context traffic", "pipeline traffic", "bubble", "data traffic",
    "optimizer", "step", "waiting",
)  # fmt: skip
"""Where a step's time goes, in this order."""


def step_parts(c: Columns, k: Calibration) -> dict[str, Array]:
    """Seconds of a step by part, for every run; they add up to the step."""
    older = np.exp(k.progress * (2026 - c.date))
    parts = _stage(c, k, older)
    parts |= _traffic(c, k, older)
    parts["kernel starts"] = _host(c, k, older, np.asarray(sum(parts.values())))
    busy = sum(parts.values())
    parts = {name: seconds * c.m for name, seconds in parts.items()}
    parts["bubble"] = busy * (c.pp - 1) / c.vpp
    parts["data traffic"] = _data_traffic(c, k, busy)
    parts["optimizer"] = _optimizer(c, k)
    parts["step"] = k.step * older
    total = sum(parts.values())
    parts["waiting"] = total * k.scale * np.log2(np.maximum(c.world / 8, 1))
    return {name: np.broadcast_to(parts[name], total.shape) for name in PARTS}


def step_seconds(c: Columns, k: Calibration) -> Array:
    """Seconds of a step."""
    return np.asarray(sum(step_parts(c, k).values()))


def products_rate(c: Columns, k: Calibration) -> Array:
    """Operations a second of large products in the run's precision."""
    shares = np.array([
        [k.ampere_bf16, k.ampere_bf16, k.ampere_bf16],
        [k.hopper_bf16, k.hopper_float8, k.hopper_float8],
        [k.blackwell_bf16, k.blackwell_float8, k.blackwell_float4],
    ])  # fmt: skip
    return np.asarray(c.peak * c.cooled * shares[c.generation.astype(int), c.precision.astype(int)])


def wide_rate(c: Columns, k: Calibration) -> Array:
    """The same of products that stay in 16 bits."""
    shares = np.array([k.ampere_bf16, k.hopper_bf16, k.blackwell_bf16])
    return np.asarray(c.wide_peak * c.cooled * shares[c.generation.astype(int)])


def _stage(c: Columns, k: Calibration, older: Array) -> dict[str, Array]:
    """Seconds of a micro-batch on one GPU: its share of the layers, of their tokens and of their matrices."""
    layers = c.layers / c.pp
    moe, dense = c.moe_layers / c.pp, (c.layers - c.moe_layers) / c.pp
    passes = 3 + c.recompute
    memory = c.memory_bandwidth * k.bandwidth
    rate = products_rate(c, k)
    scores = np.array([k.ampere_attention, k.hopper_attention, k.blackwell_attention])[c.generation.astype(int)]
    young = 1 + k.maturing * 2.0 ** (c.since - c.date)

    def products(inputs_outputs: Array, weights: Array, edges: Array, share: float = 1.0) -> Array:
        """weights: parameters in memory, read once a pass; edges: sizes of what a token brings and takes."""
        operations = 2 * c.t * inputs_outputs / (rate * share) * young
        traffic = (weights + c.t * edges) * c.bytes / memory
        return np.asarray(passes * (operations + traffic))

    attention = c.attention_parameters / c.tp
    feed_forward = c.matrices * c.hidden * c.dense_ffn / c.tp
    shared = c.matrices * c.hidden * c.shared_ffn / c.tp
    held = c.experts / c.ep * c.expert_parameters / c.etp
    rows = c.topk * c.etp / c.tp  # tokens that experts of a rank get, for each of the micro-batch's
    seen = c.t * c.heads / c.tp * c.score_sizes * c.seen
    pointwise = np.where(c.torch > 0, k.torch_pointwise, k.pointwise) * older
    head = 3 * 2 * c.t * c.hidden * c.vocab / c.tp / wide_rate(c, k) + 16 * c.t * c.vocab / c.tp / memory
    return {
        "attention layers": layers * products(attention, attention, c.attention_edges / c.tp),
        "feed-forwards": dense * products(feed_forward, feed_forward, c.matrices * (c.hidden + c.dense_ffn) / c.tp)
        + moe * products(shared, shared, c.matrices * (c.hidden + c.shared_ffn) / c.tp * (c.shared_ffn > 0)),
        "experts": moe * products(
            rows * c.expert_parameters / c.etp, held, rows * c.matrices * (c.hidden + c.moe_ffn / c.etp),
            1 / (1 + (1 / k.grouped - 1) * np.exp(k.moe_progress * (2026 - c.date))),
        ),
        "head": head * np.where(c.pp > 1, 1 / c.pp + k.head * (1 - 1 / c.pp), 1.0),
        "attention": layers * (3.5 + c.recompute) * 2 * seen / (c.wide_peak * c.cooled * scores)
        * (1 + k.attention_maturing * 2.0 ** (c.since - c.date)),
        "pointwise": _pointwise_bytes(c, k, pointwise, layers, moe, dense) / memory,
    }  # fmt: skip


def _host(c: Columns, k: Calibration, older: Array, gpu: Array) -> Array:
    """Seconds of a micro-batch for which a GPU waits until the host has started its kernels: the slower one counts."""
    host = c.layers / c.pp * k.dense_layer * older * (1 + c.recompute / 3)
    newer = np.exp(k.moe_progress * (2026 - c.date))
    host = host + c.moe_layers / c.pp * (k.moe_layer + k.dropless * c.dropless + k.expert * c.experts / c.ep) * newer
    return np.asarray((gpu**1.5 + host**1.5) ** (1/1.5) - gpu)


def _pointwise_bytes(c: Columns, k: Calibration, pointwise: Array, layers: Array, moe: Array, dense: Array) -> Array:
    """Bytes that norms, residuals, rotations, gates, permutations and casts move in a micro-batch, fused where that is
    usual: reads and writes of 16-bit numbers, forward and backward."""
    again = 1 + c.recompute / 3
    near = layers * (26 * c.hidden + 4 * c.attention_edges)
    gates = c.gate_passes * (dense * c.dense_ffn + moe * c.shared_ffn)
    routed = moe * c.topk * (8 * c.hidden + c.gate_passes * c.moe_ffn) * np.exp(k.moe_progress * (2026 - c.date))
    casts = 6 * (layers * c.attention_edges + c.matrices * (
        dense * (c.hidden + c.dense_ffn) + moe * (c.topk * (c.hidden + c.moe_ffn) + c.shared_ffn)
    ))  # fmt: skip
    return np.asarray(c.t / c.tp * again * (2 * pointwise * (near + gates + routed) + k.casts * casts * (c.bytes < 2)))


def _traffic(c: Columns, k: Calibration, older: Array) -> dict[str, Array]:
    """Seconds of a micro-batch's collectives that products do not hide."""
    layers, moe = c.layers / c.pp, c.moe_layers / c.pp
    newer = np.exp(k.moe_progress * (2026 - c.date))
    again = 1 + c.recompute / 2
    state = 2 * c.t * c.hidden  # bytes of the micro-batch's hidden state

    spread = layers * 4 + np.where(c.etp < c.tp, -2 * moe, 0)
    tensor = spread * 2 * again * state * (c.tp - 1) / c.tp
    tensor_rate = np.where(c.tp <= c.domain, c.link_bandwidth * k.link, c.network * k.network)

    sent = moe * 4 * again * state / c.tp
    ranks, nodes = np.maximum(c.ep * c.etp, 1), np.maximum(c.ep * c.etp / c.domain, 1)
    inside = c.topk * (np.minimum(ranks, c.domain) - 1) / ranks  # copies of a token for others of its domain
    outside = (nodes - 1) * (1 - (1 - 1 / nodes) ** np.maximum(c.topk, 1))  # domains beside its own that want a token
    expert = sent * (inside / (c.link_bandwidth * k.link) + outside / (c.network * k.network))

    keys = layers * 3 * 2 * c.t * c.key_sizes / c.tp * (c.cp - 1)
    context_rate = np.where(c.tp * c.cp <= c.domain, c.link_bandwidth * k.link, c.network * k.network)
    pipeline = np.where(c.pp > 1, 2 * c.vpp * state / c.tp / (c.network * k.network), 0.0)
    return {
        "tensor traffic": k.tensor_exposed * older * tensor / tensor_rate,
        "expert traffic": k.expert_exposed * newer * expert,
        "context traffic": k.context_exposed * keys / context_rate,
        "pipeline traffic": k.context_exposed * pipeline,
    }


def _data_traffic(c: Columns, k: Calibration, busy: Array) -> Array:
    """Seconds that gradients and weights travel beyond what they can hide behind: a stage's micro-batch, where only the
    optimizer is spread, or each micro-batch, where weights are gathered for every use."""
    dense = (c.body_parameters + c.table_parameters) / (c.pp * c.tp)
    experts = c.routed_parameters / (c.pp * c.ep * c.etp)
    dense_ranks, expert_ranks = c.dp * c.cp, np.maximum(c.dp * c.cp * c.tp / (c.ep * c.etp), 1)

    def seconds(parameters: Array, ranks: Array, apart: Array, size: float) -> Array:
        near = np.clip(c.domain / apart, 1, ranks)  # ranks of the group within a domain, whose network it shares
        rate = np.where(ranks <= near, c.link_bandwidth * k.link,
                        np.minimum(c.link_bandwidth * k.link, c.network * near * k.network))  # fmt: skip
        return np.asarray(parameters * size * (ranks - 1) / ranks / rate)

    def all_of(size: float) -> Array:
        return seconds(dense, dense_ranks, c.tp, size) + seconds(experts, expert_ranks, c.ep * c.etp, size)

    window = busy * np.minimum(c.vpp, c.m)
    return np.where(c.sharded > 0, c.m * _beyond(all_of(6.0), busy), _beyond(all_of(4.0), window))


def _beyond(traffic: Array, window: Array) -> Array:
    """What sticks out of a window, smoothly: nearly nothing while it is much shorter, the difference if much longer."""
    return np.asarray(traffic**2 / (traffic + window))


def _optimizer(c: Columns, k: Calibration) -> Array:
    dense = (c.body_parameters + c.table_parameters) / (c.pp * c.tp * c.dp * c.cp)
    experts = c.routed_parameters / (c.pp * c.ep * c.etp * np.maximum(c.dp * c.cp * c.tp / (c.ep * c.etp), 1))
    return np.asarray(30 * (dense + experts) / (c.memory_bandwidth * k.bandwidth))
