"""What the software of a published run was and did, where no column of a table says it: from its source, its notes and
what is documented of its release.

Megatron-Bridge's recipes are those of its releases 0.2 to 0.6 (`scripts/performance`, `perf_recipes`).
"""

import re

from troth.plan.dimensions import Dimensions
from troth.plan.gpus import Gpu

UNDATED = {
    "mosaicml/llm-foundry": 2023.7, "Megatron-LM HEAD": 2024.6, "Megatron-LM@c230e0d7c2": 2024.8,
    "Megatron-MoE-ModelZoo": 2025.6, "Automodel": 2026.1, "Nemotron-4 340B": 2024.4,
}  # fmt: skip
"""When the software of sources that do not say it is from: the dates of their commits or reports."""

FOLDING = 2025.0
"""Until then Megatron split experts over tensor-parallel ranks too, whatever their own (2504.14960)."""

CAPTURED = 2026.4
"""Since then Megatron's recipes for 8 bits in racks of Blackwell capture a whole step, fuse what experts do, and
exchange tokens behind other products (release 0.5 of Megatron-Bridge, container 26.06)."""

DEEPEP, HYBRIDEP = 2025.5, 2026.25
"""Megatron-Core 0.12 with NeMo's recipes of then; container 26.04, of release 0.4 of Megatron-Bridge."""

REAL_IMBALANCE = 1.5
"""Tokens of the busiest rank's experts over the mean, where a router may choose."""

TORCH = ("mosaicml", "prime-rl", "Automodel", "OLMo")
"""Sources whose kernels are PyTorch's own."""


def date_of(source: str, notes: str, gpu: Gpu) -> float:
    """When software is from, in years; a year and a half after its GPU where nothing says it."""
    patterns = (r"container (\d\d)\.(\d\d)", r"@v(\d\d)\.(\d\d)", r"ngc(\d\d)\.(\d\d)", r"NeMo (\d\d)\.(\d\d)",
                r"_20(\d\d)-?(\d\d)_", r"arXiv (\d\d)(\d\d)\.\d")  # fmt: skip
    for name, date in UNDATED.items():
        if name in source:
            return date
    for text in (notes, source):
        for pattern in patterns:
            if found := re.search(pattern, text):
                return 2000 + int(found[1]) + (int(found[2]) - 0.5) / 12
    return gpu.year + 1.5


def micro_batch(source: str, pp: int, local: float) -> float:
    """Sequences of a micro-batch where a row says nothing: torchtitan's pipelines have as many as stages."""
    if pp == 1:
        return local
    return local / pp if "torchtitan" in source and local % pp == 0 else 1


def stack_of(source: str) -> str:
    """Who wrote it, as in `Run.stack`."""
    if "torchtitan" in source:
        return "torchtitan"
    return "torch" if any(name in source for name in TORCH) else "fused"


def captured(source: str, gpu: Gpu, precision: str, date: float) -> bool:
    """As in `Run.captured`."""
    return "Megatron-Bridge" in source and gpu.domain > 8 and precision == "float8" and date >= CAPTURED


def sends_once(source: str, notes: str, network: Dimensions, date: float, overlap: bool) -> bool:
    """As in `Run.sends_once`: where notes name DeepEP or HybridEP, in recipes for latent attention (DeepSeek, Kimi)
    since Megatron has it, and since release 0.4 of Megatron-Bridge in all that overlap nothing."""
    latent = network.latent is not None and date >= DEEPEP
    later = "Megatron-Bridge" in source and date >= HYBRIDEP and not overlap
    return latent or later or bool(re.search(r"deepep|hybridep", notes.lower()))


def overlaps(source: str, notes: str, gpu: Gpu, ep: int, vpp: int) -> bool:
    """As in `Run.overlap`: where notes say so, and in recipes that exchange over the network, with parts of stages."""
    recipe = "Megatron-Bridge" in source and ep > gpu.domain and vpp > 1
    return recipe or bool(re.search(r"1f1b overlap|a2a overlap", notes.lower()))


def imbalance(notes: str) -> float:
    """As in `Run.imbalance`: benchmarks force every expert to get as much as any other, but where notes say so."""
    return REAL_IMBALANCE if "real routing" in notes else 1.0
