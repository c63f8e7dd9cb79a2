"""What goes between GPUs in a step, and how long: bytes over the links of a domain or over the network.

A collective over n ranks moves (n - 1) / n of its bytes through each (as NCCL's rings do). Ranks of a group in one
domain share its network; beyond a pod, bandwidth is divided by the oversubscription.
"""

import numpy as np

from troth.plan.calibration import Calibration
from troth.plan.compute import software
from troth.plan.run import Array, Columns

LINK_LATENCY, NETWORK_LATENCY = 10e-6, 25e-6
"""Seconds that a small collective takes within a domain and over the network (NCCL's own tests), the latter for each
doubling of its ranks."""

PEER_LATENCY = 0.5e-6
"""Seconds more of an all-to-all for each rank that it sends to: a message posted."""


def micro_batch_traffic(c: Columns, k: Calibration, computing: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Seconds of a micro-batch's collectives: those that products do not hide, and all."""
    layers, moe = c.stage_layers, c.stage_moe
    again = 1 + c.products_again / 2
    state = 2 * c.t * c.hidden  # bytes of the micro-batch's hidden state
    link, network = c.link_bandwidth * k.link, _network(c, k, c.tp * c.cp * c.ep * c.etp)

    passes = layers * 4 - np.where((c.etp < c.tp) | (c.torch > 0), 2 * moe, 0)
    tensor = passes * 2 * again * (
        state * (c.tp - 1) / c.tp / np.where(c.tp <= c.domain, link, network) + LINK_LATENCY * (c.tp > 1)
    )

    sent = moe * 4 * again * state / c.tp * software(c, k.progress) * c.imbalance
    ranks, nodes = c.ep * c.etp, np.maximum(c.ep * c.etp / c.domain, 1)
    copies = c.topk * np.where(c.torch > 0, c.etp, 1)  # of a token; Megatron brings parts of experts theirs afterwards
    others = np.minimum(ranks, c.domain) - 1
    distinct = others * (1 - (1 - 1 / ranks) ** np.maximum(c.topk, 1))
    inside = np.where(c.sends_once > 0, distinct, copies * others / ranks)  # those for others of its domain
    wanting = (nodes - 1) * (1 - (1 - 1 / nodes) ** np.maximum(c.topk, 1))  # other domains that want a token
    within_reach = np.where(c.reach > 0, np.minimum(wanting, c.reach * (nodes - 1) / nodes), wanting)
    outside = np.where(c.sends_once > 0, within_reach, copies * (nodes - 1) / nodes)
    rate = network * np.where(c.sends_once > 0, k.sent_once / k.network, 1)
    near, far = sent * inside / link, sent * outside / rate

    calls = moe * 4 * again * (LINK_LATENCY * (ranks > 1) + NETWORK_LATENCY * np.log2(nodes) + PEER_LATENCY * ranks)

    keys = layers * 3 * 2 * c.t * c.key_sizes / c.tp * (c.cp - 1)
    context = keys / np.where(c.tp * c.cp <= c.domain, link, network)
    pipeline = np.where(c.pp > 1, 2 * c.vpp * state / c.tp / network, 0.0)
    whole = {
        "tensor traffic": tensor,
        "expert traffic": near + far + calls,
        "context traffic": context,
        "pipeline traffic": pipeline,
    }
    exposed = {
        "tensor traffic": software(c, k.progress) * tensor,
        "expert traffic": np.where(
            c.overlap > 0, np.maximum(near + far - computing, 0), k.expert_exposed * near + far
        ) + calls,
        "context traffic": _beyond(context, computing),
        "pipeline traffic": _beyond(pipeline, computing),
    }
    return exposed, whole


def data_traffic(c: Columns, k: Calibration, busy: Array) -> tuple[Array, Array]:
    """Seconds of a step in which gradients and weights travel beyond what they can hide behind, and in all. busy: what
    a micro-batch takes; they hide behind one where only the optimizer is spread, and behind each where weights are
    gathered for every use."""
    each, once = _gathered(c, k, 6.0), _gathered(c, k, 4.0)
    sharded = c.sharded > 0
    copies = np.where(c.dp_replicate > 1, _gathered(c, k, 4.0) / c.dense_ranks * c.dp_replicate, 0)
    window = busy * np.minimum(c.vpp, c.m)
    exposed = np.where(sharded, c.m * _beyond(each, busy) + _beyond(copies, window), _beyond(once, window))
    return exposed, np.where(sharded, c.m * each + copies, once)


def _gathered(c: Columns, k: Calibration, size: float) -> Array:
    """Seconds in which weights are gathered and gradients are summed, `size` bytes a parameter."""
    layers = c.layers / c.pp

    def seconds(parameters: Array, ranks: Array, apart: Array) -> Array:
        near = np.clip(c.domain / apart, 1, ranks)  # ranks of the group within a domain
        link = c.link_bandwidth * k.link
        rate = np.where(ranks <= near, link, np.minimum(link, near * _network(c, k, ranks * apart)))
        calls = 3 * layers * np.where(ranks <= near, LINK_LATENCY, NETWORK_LATENCY) * np.log2(np.maximum(ranks, 1))
        return np.asarray(parameters * size * (ranks - 1) / ranks / rate + calls)

    dense = seconds(c.dense_held, c.dense_ranks / c.dp_replicate, c.tp)
    return dense + seconds(c.expert_held, np.maximum(c.expert_ranks / c.dp_replicate, 1), c.ep * c.etp)


def _network(c: Columns, k: Calibration, across: Array) -> Array:
    """Bytes a second of a GPU to others that are as far as `across` ranks."""
    return np.asarray(c.network * k.network / np.where(across > c.pod, c.oversubscription, 1))


def _beyond(traffic: Array, window: Array) -> Array:
    """What sticks out of a window, smoothly: nearly nothing while it is much shorter, the difference if much longer."""
    return np.asarray((traffic**2 + window**2) ** 0.5 - window)
