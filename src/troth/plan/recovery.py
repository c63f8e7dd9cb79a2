"""What failures cost on a given system: from a checkpoint's bytes, storage and group size to the terms of `goodput.py`.

Times are MegaScale's (2402.15627, sections 3.5, 4 and 6.3); storage as Llama 3's (2407.21783, section 3.3.1).
"""

from dataclasses import dataclass

import numpy as np

from troth.plan.failures import FailureRate, write_seconds
from troth.plan.goodput import GPUS_PER_NODE, Replicas, Restart, Saving, Spares, Strategy, goodput, spares_needed

DETECT_SECONDS = 600.0
"""From a failure to the node replaced: MegaScale detects and diagnoses in less than 10 minutes on average."""

SWAP_SECONDS = 120.0
"""From a failure to a waiting spare in the node's place. Assumed: a communication timeout of a minute or so, and the
diagnosis left for later."""

START_SECONDS = 30.0
"""Processes and communication groups of more than 10,000 GPUs: less than 30 s in MegaScale."""

REPAIR_SECONDS = 24 * 3600.0
"""A failed node until it can be used again, on average. Assumed: most are reset and tested, some get new parts."""

COPY_BANDWIDTH = 25e9
"""Bytes a second from a GPU to its host's memory, half of what 16 lanes of PCIe 5 could, as saves stop the step."""


@dataclass(frozen=True)
class Storage:
    """Bytes a second from or to one node and all nodes together. As shipped: 2 TB/s in all (Llama 3's, sustained)."""

    node_bandwidth: float = 5e9
    total_bandwidth: float = 2e12


@dataclass(frozen=True)
class GoodputCurve:
    """Goodput by GPUs for one strategy, arrays of one length; shares are nan where there are too few GPUs for it."""

    gpus: np.ndarray
    share: np.ndarray
    of_paid: np.ndarray
    mtbf: np.ndarray


def saving(checkpoint: float, gpus: int, step: float, storage: Storage) -> Saving:
    """Of a checkpoint of that many bytes, spread evenly: a copy to hosts holds up a step, the write goes on behind it.

    step: seconds of a step of the optimizer.
    """
    nodes = -(-gpus // GPUS_PER_NODE)
    return Saving(
        stall=checkpoint / gpus / COPY_BANDWIDTH,
        write=write_seconds(checkpoint, nodes, storage.node_bandwidth, storage.total_bandwidth),
        step=step,
    )


def strategies(
    checkpoint: float,
    gpus: int,
    mtbf: float,
    step: float,
    groups: int,
    peer_bandwidth: float,
    storage: Storage,
) -> dict[str, Strategy]:
    """The ways to go on after a failure, by name, with times in seconds: three, or two where there is only one group.

    checkpoint in bytes; mtbf of all GPUs together; step: time of an optimizer step, lost by the survivors when a group
    leaves; groups hold a full copy of the weights each; peer_bandwidth: bytes a second into one GPU from a peer's. Each
    node of a restarted world reads its part, each GPU of a healing group a group's part.
    """
    nodes = -(-gpus // GPUS_PER_NODE)
    load = write_seconds(checkpoint, nodes, storage.node_bandwidth, storage.total_bandwidth)
    ways: dict[str, Strategy] = {
        "restart the world": Restart(DETECT_SECONDS + load + START_SECONDS),
        "hot spares": Spares(spares_needed(mtbf, REPAIR_SECONDS), SWAP_SECONDS + load + START_SECONDS, REPAIR_SECONDS),
    }
    if groups > 1:
        copy = checkpoint / (gpus / groups) / peer_bandwidth
        ways["replica groups"] = Replicas(groups, max(DETECT_SECONDS + copy + START_SECONDS, step), step)
    return ways


def goodput_by_scale(
    rate: FailureRate,
    gpus: np.ndarray,
    checkpoint: float,
    step: float,
    group_gpus: int,
    peer_bandwidth: float,
    storage: Storage,
) -> dict[str, GoodputCurve]:
    """Goodput of each strategy for each count of `gpus`, in replica groups of `group_gpus`, spares as needed.

    Units as in `strategies`; the step is the same at all counts.
    """
    found: dict[str, np.ndarray] = {}
    for row, count in enumerate(map(int, gpus)):
        saves = saving(checkpoint, count, step, storage)
        groups = max(count // group_gpus, 1)
        ways = strategies(checkpoint, count, rate.mtbf(count), step, groups, peer_bandwidth, storage)
        for name, way in ways.items():
            here = goodput(rate, count, saves, way)
            found.setdefault(name, np.full((2, len(gpus)), np.nan))[:, row] = here.share, here.of_paid
    mtbf = np.array([rate.mtbf(int(count)) for count in gpus])
    return {
        name: GoodputCurve(gpus=np.asarray(gpus), share=share, of_paid=of_paid, mtbf=mtbf)
        for name, (share, of_paid) in found.items()
    }
