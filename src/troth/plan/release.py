"""What the software of a published run was and did, where no column of a table says it: from its source, its notes and
what is documented of its release.

What Megatron-Bridge's recipes do for experts is in `data/recipes.toml`.
"""

import math
import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from troth.plan.dimensions import Dimensions
from troth.plan.gpus import DATA, Gpu

UNDATED = {
    "mosaicml/llm-foundry": 2023.7, "Megatron-LM HEAD": 2024.6, "Megatron-LM@c230e0d7c2": 2024.8,
    "Megatron-MoE-ModelZoo": 2025.6, "Automodel": 2026.1, "Nemotron-4 340B": 2024.4,
}  # fmt: skip
"""When the software of sources that do not say it is from: the dates of their commits or reports."""

FOLDING = 2025.33
"""Until then Megatron's recipes split experts over tensor-parallel ranks too, whatever their own: NeMo has the choice
since 25.02 (2504.14960), tables of dgxc-benchmarking since 25.05, whose recipes before are of NeMo 24.12."""

CAPTURED = 2026.4
"""Since then Megatron-Bridge's recipes of dense networks for 8 bits in racks of Blackwell capture a whole step (release
0.5, container 26.06)."""

DEEPEP = 2025.5
"""Since then Megatron-Core has DeepEP (0.12, with NeMo's recipes of then)."""

REAL_IMBALANCE = 1.5
"""Tokens of the busiest rank's experts over the mean, where a router may choose."""

ETP = r"\betp\W{0,2}([1-9]\d*)"
"""Ranks that share an expert, in a row's notes."""

EXCHANGES = "deepep|hybridep"
"""Kernels that send a token to a rank once."""

TELLING = ("Megatron-Bridge", "dgxc-benchmarking", "NVIDIA/NeMo", "ModelZoo")
"""Sources whose tables say how many chunks of layers a pipeline's rank has."""

TORCH = ("mosaicml", "prime-rl", "Automodel", "OLMo")
"""Sources whose kernels are PyTorch's own."""

COMPILED = ("Automodel",)
"""Of these, those that compile experts' gates, whatever their biases and bounds, to one kernel (torch.compile, in NeMo
Automodel's `components/moe/experts.py`)."""


def date_of(source: str, notes: str, gpu: Gpu) -> float:
    """When software is from, in years; a year and a half after its GPU where nothing says it."""
    patterns = (r"container (\d\d)\.(\d\d)(\.\d\d)?", r"@v(\d\d)\.(\d\d)", r"ngc(\d\d)\.(\d\d)", r"NeMo (\d\d)\.(\d\d)",
                r"_20(\d\d)-?(\d\d)_", r"arXiv (\d\d)(\d\d)\.\d")  # fmt: skip
    for name, date in UNDATED.items():
        if name in source:
            return date
    for text in (notes, source):
        for pattern in patterns:
            if found := re.search(pattern, text):
                return _year(*found.groups())
    return gpu.year + 1.5


def micro_batch(source: str, pp: int, local: float) -> float:
    """Sequences of a micro-batch where a row says nothing: torchtitan's pipelines have as many as stages."""
    if pp == 1:
        return local
    return local / pp if "torchtitan" in source and local % pp == 0 else 1


def chunks(source: str, pp: int, layers: int) -> int:
    """Chunks of layers of a pipeline's rank where a row says nothing. Reports of large runs leave out that they are
    interleaved: those that say it (MLPerf's of GPT-3 and Llama 3.1) have chunks of one to three layers, taken here for
    two, or one where there are no halves. Tables that have a column for it leave it empty where there is one chunk, and
    torchtitan's name the schedule."""
    if pp == 1 or stack_of(source) != "fused" or any(name in source for name in TELLING):
        return 1
    longest = -(-layers // pp)
    return longest // 2 if longest % 2 == 0 else longest


def expert_ranks(ep: int, notes: str, ranks: int, experts: int) -> int:
    """Ranks that share the experts. Where a row says nothing, kernels that exchange tokens (DeepEP) would have no work
    with all experts on each: they are spread as far as they go, as NeMo Automodel's configurations of such rows do."""
    if ep or not experts or not re.search(EXCHANGES, notes.lower()):
        return ep or 1
    return math.gcd(ranks, experts)


def expert_tensor_ranks(ep: int, tp: int, notes: str, date: float) -> int:
    """Ranks that share each expert: as notes say ("ETP=4"), else as was usual."""
    if said := re.search(ETP, notes.lower()):
        return int(said[1])
    return 1 if ep > 1 and date >= FOLDING else tp


def stack_of(source: str) -> str:
    """Who wrote it, as in `Run.stack`."""
    if "torchtitan" in source:
        return "torchtitan"
    return "torch" if any(name in source for name in TORCH) else "fused"


@dataclass(frozen=True)
class Recipe:
    """What a release does, as in `Run`; again: what is computed twice, in a row's words, "" if not known."""

    sends_once: bool = False
    overlap: bool = False
    graphs: str = "none"
    again: str = ""
    ahead: int = 0


def recipe_of(source: str, notes: str, network: Dimensions, gpu: Gpu, precision: str, date: float) -> Recipe:
    """By what is documented of Megatron-Bridge's releases; of others' software by the notes, but that recipes for
    latent attention (DeepSeek, Kimi) take DeepEP since Megatron has it, and that commands of Megatron-MoE-ModelZoo for
    racks of Blackwell take HybridEP and start attention as CUDA graphs (its `best_practice/qwen3/readme.md`)."""
    if "Megatron-Bridge" in source:
        if not network.experts:
            return Recipe(graphs="step" if gpu.domain > 8 and precision == "float8" and date >= CAPTURED else "none")
        found = Recipe()
        for one in recipes():
            if _matches(one, network.name, gpu.name, precision, date):
                found = replace(found, **one["does"])
        return found
    racks = "ModelZoo" in source and gpu.domain > 8
    once = racks or (network.latent is not None and date >= DEEPEP) or bool(re.search(EXCHANGES, notes.lower()))
    graphs = "attention" if racks or re.search(r"cuda graphs?\W+attn", notes.lower()) else "none"
    return Recipe(once, bool(re.search(r"1f1b overlap|a2a overlap", notes.lower())), graphs)


@cache
def recipes() -> list[dict[str, Any]]:
    """Of Megatron-Bridge (`data/recipes.toml`), in the order of the file: `does`, fields of a `Recipe`; `since` in
    years."""
    file = tomllib.loads((DATA / "recipes.toml").read_text(encoding="utf-8"))
    exchanges = [
        table | {"does": {
            "sends_once": table.get("exchange", "alltoall") != "alltoall", "overlap": table.get("overlap", False),
            "graphs": table.get("graphs", "none"),
        }}
        for table in file["recipes"]
    ]  # fmt: skip
    besides = [table | {"does": {name: table[name] for name in ("again", "ahead") if name in table}}
               for table in file["besides"]]  # fmt: skip
    return [table | {"since": _year(*table["since"].split("."))} for table in exchanges + besides]


def _matches(recipe: dict[str, Any], network: str, gpu: str, precision: str, date: float) -> bool:
    narrow = precision if precision != "float4" else "float8"
    return (
        network in recipe["networks"] and gpu in recipe["gpus"] and date >= recipe["since"]
        and recipe.get("precision", narrow) == narrow
    )  # fmt: skip


def _year(year: str, month: str, patch: str | None = None) -> float:
    """The middle of a month, `year` in two digits; a release's patch is a little later."""
    return 2000 + int(year) + (int(month) - 0.5) / 12 + 0.01 * (patch is not None)


def imbalance(notes: str) -> float:
    """As in `Run.imbalance`: benchmarks force every expert to get as much as any other, but where notes say so."""
    return REAL_IMBALANCE if "real routing" in notes else 1.0
