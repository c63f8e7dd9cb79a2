"""A training run as the time and memory models see it: a network, a batch, a layout and GPUs; and many of them as
columns of numbers, so that thousands of layouts are judged at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from troth.plan.dimensions import Dimensions
from troth.plan.gpus import Gpu

Array = NDArray[np.float64]

GENERATIONS = {2020: "ampere", 2022: "hopper", 2023: "hopper", 2024: "blackwell", 2025: "blackwell"}
"""Of a GPU, by the year in which it was announced; MI300X is taken for its contemporary."""

BYTES = {"float32": 4.0, "bf16": 2.0, "float8": 1.0, "float4": 0.5625}
"""Bytes of a number in a product, scales of blocks included."""

WATTS = {"ampere": 400 / 312e12, "hopper": 700 / 989e12, "blackwell": 1200 / 2500e12}
"""Power behind each operation a second of the published peak, of the GPU that shares of peaks are for. Others come
nearer or less near to theirs in proportion: products run at the limit of power."""

CHEAP = 0.1
"""Share of a layer's forward pass that selective checkpointing does again: all but products."""

GRAPHS = ("none", "attention", "step")
"""What may be started as CUDA graphs."""


@dataclass(frozen=True)
class Run:
    """`sequences` of `length` tokens a step over `world` GPUs. Every rank of the `dp` data-parallel ones computes its
    share in micro-batches of `micro_batch` sequences. sharded: whether weights and gradients are spread over
    data-parallel ranks and gathered for each use (ZeRO-3, FSDP), and not the optimizer's state alone (ZeRO-1); with
    `dp_replicate` copies of what is spread; optimizer: `muon` for the matrices inside layers, or `adamw` for all.

    recompute: the share of a layer's forward pass that is done again for its gradient, cheapest parts first. date: when
    the software is from, in years. stack: who wrote it, `fused` (Megatron's hand-tuned kernels), `torch` (Troth and
    others) or `torchtitan`. imbalance: the tokens of the busiest rank's experts over the mean. wide_experts: they stay
    in 16 bits, whatever the precision. sends_once: a token goes to another domain once, however many of its experts are
    there (DeepEP, 2412.19437, section 3.2.2), and not once for each. overlap: experts' traffic goes on behind products
    of another micro-batch (DualPipe). graphs: what is started as CUDA graphs, one of `GRAPHS`; of a whole `step`, sizes
    of what experts get stay on the GPU, and their gates and casts are parts of their products. ahead: modules of
    multi-token prediction behind the last layer, of a layer and the head each. oversubscription: the network's
    bandwidth within a pod of `pod` GPUs over that between pods.
    """

    dimensions: Dimensions
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
    dp_replicate: int = 1
    sharded: bool = False
    optimizer: str = "muon"
    precision: str = "bf16"
    recompute: float = 0.0
    date: float = 2026.5
    stack: str = "torch"
    imbalance: float = 1.0
    wide_experts: bool = False
    sends_once: bool = False
    overlap: bool = False
    graphs: str = "none"
    ahead: int = 0
    pod: int = 1_000_000
    oversubscription: float = 1.0

    @property
    def dp(self) -> int:
        """Ranks that read different rows."""
        return self.world // (self.tp * self.pp * self.cp)

    @property
    def micro_batches(self) -> float:
        """Of a step, one after another."""
        return self.sequences / (self.dp * self.micro_batch)


class Columns:
    """Runs as arrays, one number a run; what a network or a GPU has is a column too.

    Derived: stage_layers, stage_moe, layers of a pipeline's rank that has most and those with experts among them;
    spared, how many fewer the last rank has; t, tokens of a micro-batch that the ranks of a tensor-parallel group
    share; dp; m, micro-batches of a step; pointwise_again and products_again, shares of the forward pass's pointwise
    work and products that are done again; dense_held and expert_held, parameters of a rank's part of the network before
    anything is sharded, dense_ranks and expert_ranks, the ranks that share each.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
        c = self._values
        c["t"] = c["micro_batch"] * c["length"] / c["cp"]
        # A pipeline goes as fast as its longest rank. Chunks are of whole layers; those that do not come out even are
        # missing on the first rank, which has the embedding, and on the last. Recipes for multi-token prediction, whose
        # modules are on the last, leave all of them out there; Troth's own trainer does not.
        turns = np.where(c["pp"] > 1, c["vpp"], 1)
        longest = np.ceil(c["layers"] / (c["pp"] * turns)) * turns
        missing = longest * c["pp"] - c["layers"]
        fewer = np.where((c["ahead"] > 0) & (c["torch"] == 0), missing, np.minimum(missing / 2, turns))
        last = np.maximum(longest - fewer, 0) + c["ahead"]
        c["stage_layers"] = np.maximum(longest, last)
        c["spared"] = c["stage_layers"] - last
        moe = c["moe_layers"] + c["ahead"] * (c["moe_layers"] > 0)
        c["stage_moe"] = c["stage_layers"] * moe / (c["layers"] + c["ahead"])
        c["dp"] = c["world"] / (c["tp"] * c["pp"] * c["cp"])
        c["m"] = c["sequences"] / (c["dp"] * c["micro_batch"])
        c["pointwise_again"] = np.minimum(c["recompute"] / CHEAP, 1)
        c["products_again"] = np.maximum(c["recompute"] - CHEAP, 0) / (1 - CHEAP)
        c["dense_ranks"] = c["dp"] * c["cp"]
        c["expert_ranks"] = np.maximum(c["dp"] * c["cp"] * c["tp"] / (c["ep"] * c["etp"]), 1)
        c["dense_held"] = (c["body_parameters"] + c["table_parameters"]) / (c["pp"] * c["tp"])
        c["expert_held"] = c["routed_parameters"] / (c["pp"] * c["ep"] * c["etp"])

    def __getattr__(self, name: str) -> Array:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None

    def __len__(self) -> int:
        return len(self._values["world"])

    def at(self, chosen: NDArray[Any]) -> "Columns":
        """Some of the runs."""
        some = object.__new__(Columns)
        some._values = {name: values[chosen] for name, values in self._values.items()}
        return some

    def with_recompute(self, share: Array) -> "Columns":
        """The same runs that do other shares of the forward pass again."""
        return Columns(self._values | {"recompute": share})


def columns(runs: Sequence[Run]) -> Columns:
    """The runs side by side."""
    rows = [row_of(run) for run in runs]
    return Columns({name: [row[name] for row in rows] for name in rows[0]})


def row_of(run: Run) -> dict[str, float]:
    """What columns have of one run."""
    layout = ("world", "sequences", "length", "micro_batch", "tp", "pp", "vpp", "cp", "ep", "etp", "dp_replicate",
              "sharded", "recompute", "date", "imbalance", "wide_experts",
              "sends_once", "overlap", "ahead", "pod", "oversubscription")  # fmt: skip
    row = {name: getattr(run, name) for name in layout}
    row |= {name: run.graphs in GRAPHS[level:] for level, name in enumerate(("graphed", "captured"), start=1)}
    row |= {"torch": run.stack in ("torch", "torchtitan"), "titan": run.stack == "torchtitan"}
    return row | {"muon": run.optimizer == "muon"} | _gpu(run.gpu, run.precision) | _network(run.dimensions, run.length)


def _gpu(gpu: Gpu, precision: str) -> dict[str, float]:
    used = precision if precision in gpu.peaks else "bf16"
    generation = GENERATIONS[gpu.year]
    row = {
        "peak": gpu.peak(used), "wide_peak": gpu.peak("bf16"), "bytes": BYTES[used], "since": gpu.year + 1,
        "memory_bandwidth": gpu.memory_bandwidth, "link_bandwidth": gpu.link_bandwidth, "network": gpu.network,
        "domain": gpu.domain, "gpu_memory": gpu.memory, "exponentials": gpu.exponentials,
        "cooled": gpu.power / gpu.peak("bf16") / WATTS[generation],
    }  # fmt: skip
    return row | {name: name == generation for name in WATTS}


def _network(d: Dimensions, length: int) -> dict[str, float]:
    sizes = ("layers", "hidden", "heads", "vocab", "moe_layers", "experts", "topk", "moe_ffn", "shared_ffn",
             "dense_ffn", "matrices", "kv_heads", "head_dim", "attention_gate", "post_norms", "qk_norm",
             "qk_whole", "rotated", "reach", "tied", "expert_parameters", "attention_parameters", "body_parameters",
             "routed_parameters")  # fmt: skip
    row = {name: getattr(d, name) for name in sizes}
    latent = d.latent
    return row | {
        "attention_edges": sum(inputs + outputs for inputs, outputs in d.attention_products),
        "score_sizes": d.head_dim + d.value_dim,
        "seen": d.seen(length),
        "key_sizes": latent.kv_lora_rank if latent else d.kv_heads * (d.head_dim + d.value_dim),
        # Passes over a gate's numbers for biases and bounds, which no fused kernel has.
        "bounds": 30 if d.clamped else 0,
        "table_parameters": (1 if d.tied else 2) * d.vocab * d.hidden,
    }
