"""A training run as the time and memory models see it: a network, a batch, a layout and GPUs; and many of them as
columns of numbers, so that thousands of layouts are judged at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from troth.plan.gpus import Gpu
from troth.plan.shape import Shape

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """`sequences` of `length` tokens a step over `world` GPUs. Every rank of the `dp` data-parallel ones computes its
    share in micro-batches of `micro_batch` sequences. sharded: whether weights and gradients are spread over the
    data-parallel ranks and gathered for each use (ZeRO-3, FSDP), and not the optimizer's state alone (ZeRO-1).

    recompute: the share of a layer's forward pass that is done again for its gradient. date: when the software is from,
    in years. stack: who wrote it: `fused`, hand-tuned kernels (Megatron), or `torch` (torchtitan, FSDP), or `xla`.
    dropless: whether experts take all the tokens that the router sends (force-balanced ones, in most publications).
    """

    shape: Shape
    gpu: Gpu
    world: int
    sequences: int
    length: int
    micro_batch: int = 1
    tp: int = 1
    pp: int = 1
    vpp: int = 1
    cp: int = 1
    ep: int = 1
    etp: int = 1
    sharded: bool = False
    precision: str = "bf16"
    recompute: float = 0.0
    date: float = 2026.0
    stack: str = "torch"
    dropless: bool = True

    @property
    def dp(self) -> int:
        """Ranks that read different rows."""
        return self.world // (self.tp * self.pp * self.cp)

    @property
    def micro_batches(self) -> float:
        """Of a step, one after another."""
        return self.sequences / (self.dp * self.micro_batch)


class Columns:
    """Runs as arrays, one number a run. What a network or a GPU has is a column too; see `step` and `memory`."""

    def __init__(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, np.asarray(value, dtype=np.float64))
        self.t = self.micro_batch * self.length / self.cp  # tokens of a micro-batch, of all tensor-parallel ranks
        self.dp = self.world / (self.tp * self.pp * self.cp)
        self.m = self.sequences / (self.dp * self.micro_batch)

    def __getattr__(self, name: str) -> Array:
        raise AttributeError(name)


GENERATIONS = {2020: 0, 2022: 1, 2023: 1, 2024: 2, 2025: 2}
WATTS = (400 / 312e12, 700 / 989e12, 1200 / 2500e12)
"""Power behind an operation a second of the published peak on the GPU of each generation that shares of peaks are for;
others come nearer or less near by the root of theirs, since dynamic power grows with the square of the clock or more."""
PRECISIONS = {"bf16": 0, "float8": 1, "float4": 2}
BYTES = {"bf16": 2.0, "float8": 1.0, "float4": 0.5625}


def columns(runs: Sequence[Run]) -> Columns:
    """The runs side by side."""
    rows = [_row(run) for run in runs]
    return Columns({name: [row[name] for row in rows] for name in rows[0]})


def _row(run: Run) -> dict[str, float]:
    s, g = run.shape, run.gpu
    precision = run.precision if run.precision in g.peaks else "bf16"
    products = s.attention_products
    return {
        "world": run.world, "sequences": run.sequences, "length": run.length, "micro_batch": run.micro_batch,
        "tp": run.tp, "pp": run.pp, "vpp": run.vpp, "cp": run.cp, "ep": run.ep, "etp": run.etp,
        "sharded": run.sharded, "recompute": run.recompute, "date": run.date, "torch": run.stack == "torch", "dropless": run.dropless,
        "precision": PRECISIONS[precision], "bytes": BYTES[precision], "generation": GENERATIONS[g.year], "since": g.year + 1,
        "peak": g.peak(precision), "wide_peak": g.peak("bf16"), "memory_bandwidth": g.memory_bandwidth,
        "link_bandwidth": g.link_bandwidth, "network": g.network, "domain": g.domain, "gpu_memory": g.memory, "cooled": (g.power / g.peak("bf16") / WATTS[GENERATIONS[g.year]]),
        "layers": s.layers, "hidden": s.hidden, "heads": s.heads, "vocab": s.vocab, "moe_layers": s.moe_layers,
        "experts": s.experts, "topk": s.topk, "moe_ffn": s.moe_ffn, "shared_ffn": s.shared_ffn,
        "dense_ffn": s.dense_ffn, "matrices": s.matrices, "gate_passes": 30 if s.clamped else 10, "expert_parameters": s.expert_parameters,
        "attention_parameters": s.attention_parameters, "attention_edges": sum(i + o for i, o in products),
        "score_sizes": (s.head_dim + s.value_dim + 128) * 256 / 384, "seen": s.seen(run.length),
        "key_sizes": s.kv_heads * (s.head_dim + s.value_dim) if s.latent is None else s.latent.kv_lora_rank,
        "body_parameters": s.body_parameters, "routed_parameters": s.routed_parameters,
        "table_parameters": (1 if s.tied else 2) * s.vocab * s.hidden,
    }  # fmt: skip
