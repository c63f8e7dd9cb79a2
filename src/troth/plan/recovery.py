"""What failures cost on a given system: from a checkpoint's bytes, storage and group size to the terms of `goodput.py`.

Times are MegaScale's (2402.15627, sections 3.5, 4 and 6.3); storage as Llama 3's (2407.21783, section 3.3.1).
"""

from dataclasses import dataclass

from troth.plan.failures import write_seconds
from troth.plan.goodput import Replicas, Restart, Saving, Spares, Strategy, spares_needed

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


def saving(checkpoint: float, gpus: int, step: float, storage: Storage, gpus_per_node: int = 8) -> Saving:
    """Of a checkpoint of that many bytes, spread evenly: a copy to hosts holds up a step, the write goes on behind it.

    step: seconds of a step of the optimizer.
    """
    nodes = -(-gpus // gpus_per_node)
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
    gpus_per_node: int = 8,
) -> dict[str, Strategy]:
    """The ways to go on after a failure, by name, with times in seconds: three, or two where there is only one group.

    checkpoint in bytes; mtbf of all GPUs together; step: time of an optimizer step, lost by the survivors when a group
    leaves; groups hold a full copy of the weights each; peer_bandwidth: bytes a second into one GPU from a peer's. Each
    node of a restarted world reads its part, each GPU of a healing group a group's part.
    """
    nodes = -(-gpus // gpus_per_node)
    load = write_seconds(checkpoint, nodes, storage.node_bandwidth, storage.total_bandwidth)
    ways: dict[str, Strategy] = {
        "restart the world": Restart(DETECT_SECONDS + load + START_SECONDS),
        "hot spares": Spares(spares_needed(mtbf, REPAIR_SECONDS), SWAP_SECONDS + load + START_SECONDS, REPAIR_SECONDS),
    }
    if groups > 1:
        copy = checkpoint / (gpus / groups) / peer_bandwidth
        ways["replica groups"] = Replicas(groups, max(DETECT_SECONDS + copy + START_SECONDS, step), step)
    return ways
