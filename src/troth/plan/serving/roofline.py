"""How long a step of an engine takes on a replica: bytes over bandwidth, operations over peak, exchanges over links.

The roofline is that of Williams et al. (2009), taken part by part as in LLM-Viewer (2402.16363); the experts that a
batch reaches are counted as in a collector's problem. What hardware falls short of is in `Efficiency`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from troth.model.config import ModelConfig
from troth.model.counts import count_parts, kv_cache_bytes
from troth.plan.gpus import Gpu

BITS = {"bf16": 16.0, "float8": 8.0, "int8": 8.5, "int4": 4.5, "float4": 4.5}
"""Bits of a weight with its scales."""
PRODUCTS = {"bf16": "bf16", "float8": "float8", "int8": "bf16", "int4": "bf16", "float4": "float4"}
"""What weights are multiplied in: int8 and int4 are widened first."""


@dataclass(frozen=True)
class Efficiency:
    """What is left of a GPU's figures, fitted to data/serving.toml (`python bench/plan_serve.py --fit`), but for the
    latencies of exchanges, which follow from DeepEP's README (from memory).

    bandwidth, link, network: shares of the bandwidth to memory, to the domain and to the network. products, experts,
    attention: shares of the peak in products with dense weights and with experts, and of the bf16 peak in products of
    queries and keys. rows: rows that an expert computes in vain, since it works on blocks of them. overlap: the share
    of exchanges of experts that hides behind computing, as far as there is computing. imbalance: tokens of the busiest
    GPU's experts over the mean. Seconds: link_latency and network_latency of an exchange, layer of the small kernels of
    a layer, step of scheduling and sampling, sequence of the same for each that decodes (on GPUs it hides behind them).
    """

    bandwidth: float = 0.70
    products: float = 0.70
    experts: float = 0.30
    rows: float = 64.0
    attention: float = 0.45
    link: float = 0.35
    network: float = 0.90
    overlap: float = 0.25
    imbalance: float = 1.2
    link_latency: float = 10e-6
    network_latency: float = 40e-6
    layer: float = 80e-6
    step: float = 2e-3
    sequence: float = 0.0


FITTED = Efficiency()


@dataclass(frozen=True)
class Shape:
    """`gpus` of a kind that hold one copy of the network. Groups of `tp` share attention and dense weights, each group
    with sequences of its own; experts are spread over all. `weights` and `cache` name their kinds of numbers."""

    gpu: Gpu
    gpus: int
    tp: int
    weights: str = "float8"
    cache: str = "bf16"

    def __post_init__(self) -> None:
        for name in ("weights", "cache"):
            if getattr(self, name) not in BITS:
                raise ValueError(f"{name} {getattr(self, name)}: unknown; known are {', '.join(BITS)}")

    @property
    def groups(self) -> int:
        """Groups that have sequences of their own (data-parallel attention)."""
        return self.gpus // self.tp


@dataclass(frozen=True)
class Step:
    """Seconds of a step by what they go to; arrays where the batch was one."""

    products: np.ndarray
    attention: np.ndarray
    exchange: np.ndarray
    overhead: np.ndarray

    @property
    def seconds(self) -> np.ndarray:
        """The whole step."""
        return self.products + self.attention + self.exchange + self.overhead


@dataclass(frozen=True)
class Roofline:
    """A network on a replica, whose router chooses all experts equally often."""

    model: ModelConfig
    shape: Shape
    efficiency: Efficiency = FITTED

    def step(self, decoding: float | np.ndarray, context: float, prompt: float | np.ndarray = 0.0, seen: float = 0.0,
             prompts: float | np.ndarray = np.inf) -> Step:  # fmt: skip
        """A step in which `decoding` sequences of mean `context` tokens get a token each, and `prompt` tokens are
        computed that see `seen` others on average. The prompts are with as many groups as there are `prompts`."""
        decoding, prompt = np.asarray(decoding, float), np.asarray(prompt, float)
        most = self.group_tokens(decoding, prompt, prompts)
        products = self.dense(most) + self.experts(decoding + prompt) + self.head(self.group_tokens(decoding, 0.0, 1.0))
        attention = self.decode_attention(decoding, context) + self.prompt_attention(
            prompt / self.sharing(prompts), seen
        )
        overhead = self.overhead + self.efficiency.sequence * decoding
        return Step(products, attention, self.exchange(most, products), overhead)

    def sharing(self, sequences: float | np.ndarray) -> np.ndarray:
        """Groups that so many sequences keep at work: a sequence is with one group."""
        return np.clip(sequences, 1, self.shape.groups)

    def group_tokens(self, decoding: float | np.ndarray, prompt: float | np.ndarray, prompts: float | np.ndarray
                     ) -> np.ndarray:  # fmt: skip
        """Tokens of a step in the group that has most."""
        return decoding / self.sharing(decoding) + prompt / self.sharing(prompts)

    @cached_property
    def overhead(self) -> float:
        """Seconds of a step that do not depend on its batch."""
        return self.efficiency.step + self.model.num_hidden_layers * self.efficiency.layer

    @cached_property
    def _parts(self) -> dict[str, float]:
        return {name: float(part.total) for name, part in count_parts(self.model).items()}

    @cached_property
    def weight_bytes(self) -> float:
        """Bytes of all weights; the embedding stays in bf16."""
        return sum(self._parts.values()) * self._width + self._parts["embedding"] * (2 - self._width)

    @cached_property
    def weight_bytes_per_gpu(self) -> float:
        """Bytes of a GPU's share."""
        routed = self._parts.get("routed experts", 0.0) * self._width
        return routed / self.shape.gpus + (self.weight_bytes - routed) / self.shape.tp

    @cached_property
    def _width(self) -> float:
        return BITS[self.shape.weights] / 8

    @cached_property
    def _bandwidth(self) -> float:
        return self.shape.gpu.memory_bandwidth * self.efficiency.bandwidth

    @cached_property
    def _peak(self) -> float:
        return self.shape.gpu.peak(PRODUCTS[self.shape.weights])

    def cache_bytes(self, context: float) -> float:
        """Bytes that a sequence's keys and values take on each GPU of its group: heads are shared as far as there are
        heads; a latent vector is on all."""
        heads = self.model.cache_shape[0]
        width = BITS[self.shape.cache] / 8
        return kv_cache_bytes(self.model, max(1, round(context)), width) / min(self.shape.tp, heads)

    def covered(self, tokens: np.ndarray) -> np.ndarray:
        """The expected share of a layer's experts that at least one of the tokens chooses."""
        passed_over = 1 - self.model.num_experts_per_tok / self.model.num_experts
        return np.asarray(1 - passed_over ** np.asarray(tokens, float))

    @property
    def _busiest(self) -> float:
        """Tokens of the busiest GPU's experts over the mean."""
        return 1.0 if min(self.shape.gpus, self.model.num_experts) == 1 else self.efficiency.imbalance

    def dense(self, tokens: np.ndarray) -> np.ndarray:
        """Seconds of the products with what works on every token, for the `tokens` of a group; without the head."""
        found = np.zeros_like(tokens)
        for name in ("attention", "dense feed-forward", "shared experts", "routers"):
            size = self._parts.get(name, 0.0) / self.shape.tp
            found = found + self._product(size * self._width, 2 * size * tokens)
        return np.where(tokens > 0, found, 0.0)

    def experts(self, tokens: np.ndarray) -> np.ndarray:
        """Seconds of the products with routed experts, for the `tokens` of the whole replica."""
        routed = self._parts.get("routed experts", 0.0) / self.shape.gpus
        reached = routed * self.covered(tokens)
        rows = tokens * self.model.num_experts_per_tok * self._busiest
        computed = routed / self.model.num_experts * rows + reached * self.efficiency.rows
        return self._product(reached * self._width, 2 * computed, self.efficiency.experts)

    def head(self, sampled: np.ndarray) -> np.ndarray:
        """Seconds of the head, which draws a token for each sequence of a group."""
        size = self.model.vocab_size * self.model.hidden_size / self.shape.tp
        return np.where(sampled > 0, self._product(size * self._width, 2 * size * sampled), 0.0)

    def _product(self, read: float | np.ndarray, operations: np.ndarray, reached: float | None = None) -> np.ndarray:
        """Whichever takes longer, reading weights or computing with them at the share of the peak that is reached."""
        share = self.efficiency.products if reached is None else reached
        return np.maximum(read / self._bandwidth, operations / (self._peak * share))

    def decode_attention(self, sequences: np.ndarray, context: float) -> np.ndarray:
        """Seconds of attention for one new token of each sequence."""
        read = sequences / self.shape.groups * self.cache_bytes(context) / self._bandwidth
        return np.maximum(read, sequences * (self._seen(context) * self._pair(decoding=True)))

    def prompt_attention(self, tokens: float | np.ndarray, seen: float) -> np.ndarray:
        """Seconds of attention for a group's prompt `tokens` that see `seen` others each on average."""
        return np.multiply(tokens, self._seen(seen) * self._pair(decoding=False) * self.shape.groups)

    def _seen(self, context: float) -> float:
        """Pairs over all layers of a token with what it sees, windows considered."""
        return sum(min(context, self.model.attention_span(layer)) for layer in range(self.model.num_hidden_layers))

    def _pair(self, decoding: bool) -> float:
        """Seconds of one query with one key and value in all heads, where all GPUs work on such. Latent attention
        decodes within the latent space (2405.04434, section 2.1.2), which is wider."""
        c = self.model
        if c.latent and decoding:
            width = 2 * c.latent.kv_lora_rank + c.latent.qk_rope_head_dim
        else:
            width = c.head_dim + (c.latent.v_head_dim if c.latent else c.head_dim)
        rate = self.shape.gpu.peak("bf16") * self.efficiency.attention * self.shape.gpus
        return 2 * c.num_attention_heads * width / rate

    def exchange(self, tokens: np.ndarray, computing: np.ndarray) -> np.ndarray:
        """Seconds of what GPUs tell each other about a group's `tokens`, as far as computing does not hide it."""
        c, shape = self.model, self.shape
        moe_layers = c.num_hidden_layers - c.num_dense_layers
        spread = shape.gpus > shape.tp and moe_layers > 0
        reduced = 2 * c.num_hidden_layers - (moe_layers if spread else 0)
        found = reduced * self._all_reduce(tokens) if shape.tp > 1 else np.zeros_like(tokens)
        if spread:
            told = moe_layers * self._all_to_all(tokens / shape.tp)
            found = found + told - self.efficiency.overlap * np.minimum(told, computing)
        return np.where(tokens > 0, found, 0.0)

    def _all_reduce(self, tokens: np.ndarray) -> np.ndarray:
        """Within a group of `tp`, each GPU sends and receives its tokens' hidden states about twice."""
        e, tp, gpu = self.efficiency, self.shape.tp, self.shape.gpu
        inside = tp <= gpu.domain
        bandwidth = gpu.link_bandwidth * e.link if inside else gpu.network * e.network
        sent = 2 * (tp - 1) / tp * tokens * self.model.hidden_size * 2
        return sent / bandwidth + (e.link_latency if inside else e.network_latency)

    def _all_to_all(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens go to their experts (8-bit where weights are) and come back in bf16: to each expert directly, or, with
        one more hop, once to each domain that has any of them (DeepEP's two kinds of kernels); the quicker is taken."""
        c, e, gpu = self.model, self.efficiency, self.shape.gpu
        domains = -(-self.shape.gpus // gpu.domain)
        width = c.hidden_size * (2 + min(2.0, max(1.0, self._width)))
        copies = c.num_experts_per_tok
        reached = domains * (1 - (1 - 1 / domains) ** copies)
        if c.num_expert_groups > 1:
            reached = min(reached, c.topk_groups)
        outside = 1 - min(1.0, gpu.domain / self.shape.gpus)
        inside = copies * tokens * width / (gpu.link_bandwidth * e.link)
        wire = tokens * width * outside / (gpu.network * e.network) * self._busiest
        latency = e.network_latency if domains > 1 else e.link_latency
        direct = np.maximum(inside * (1 - outside), copies * wire) + 2 * latency
        forwarded = np.maximum(inside, reached * wire) + 4 * latency
        return np.minimum(direct, forwarded)
