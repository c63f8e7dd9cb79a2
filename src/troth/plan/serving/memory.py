"""What of a replica's memory is left for keys and values, and how many sequences that holds."""

from troth.plan.serving.roofline import Roofline

USED = 0.9
"""Share of a GPU's memory that an engine fills, as vLLM's `gpu_memory_utilization` does by default; the rest is for
activations, exchange buffers and fragments."""

MOST = 1024
"""Sequences of a group at once, whatever memory holds: vLLM's limit on such GPUs (`max_num_seqs`)."""


def free_bytes(found: Roofline) -> float:
    """Bytes of each GPU that are left for keys and values; negative where the weights do not fit."""
    return USED * found.shape.gpu.memory - found.weight_bytes_per_gpu


def most_at_once(found: Roofline, context: float) -> int:
    """How many sequences of `context` tokens a replica works on at once; at least one."""
    return max(1, min(int(most_sequences(found, context)), MOST * found.shape.groups))


def most_sequences(found: Roofline, context: float) -> float:
    """How many sequences of `context` tokens the whole replica holds at once; 0 where the weights do not fit."""
    return max(0.0, free_bytes(found)) / found.cache_bytes(context) * found.shape.groups
