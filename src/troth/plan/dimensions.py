"""What the planner knows of a network: sizes of its products, dense or mixture of experts. From a `ModelConfig`, or
from the published dimensions of networks that Troth does not build (`data/networks.toml`)."""

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from troth.model.config import Latent, ModelConfig
from troth.plan.gpus import DATA, plain


@dataclass(frozen=True)
class Dimensions:
    """Sizes of a decoder. `moe_layers` of its `layers` have `experts` of width `moe_ffn`, of which a token uses `topk`,
    and shared ones `shared_ffn` wide in all; the others have one feed-forward of width `dense_ffn`. `matrices` is how
    many a feed-forward has: 3 where it is gated, 2 where not. `windows` layers see `window` tokens, the others all.
    clamped: gates with biases and bounds (gpt-oss), which no fused kernel computes. post_norms: norms behind attention
    and feed-forward too; qk_norm: of queries and keys, qk_whole: of all heads together; rotated: the share of layers
    whose queries and keys know their positions; reach: nodes' groups of experts that a token may go to, 0 where all.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    dense_ffn: int = 0
    moe_layers: int = 0
    experts: int = 0
    topk: int = 0
    moe_ffn: int = 0
    shared_ffn: int = 0
    matrices: int = 3
    tied: bool = False
    attention_gate: bool = False
    window: int = 0
    windows: int = 0
    clamped: bool = False
    latent: Latent | None = None
    post_norms: bool = False
    qk_norm: bool = False
    qk_whole: bool = False
    rotated: float = 1.0
    reach: int = 0

    @classmethod
    def of(cls, config: ModelConfig, name: str = "") -> "Dimensions":
        """Of a network that Troth builds."""
        c = config
        sliding = sum(c.layer_type(layer) == "sliding_attention" for layer in range(c.num_hidden_layers))
        return cls(
            name or c.model_type, c.num_hidden_layers, c.hidden_size, c.num_attention_heads, c.num_key_value_heads,
            c.head_dim, c.vocab_size, c.intermediate_size, c.num_hidden_layers - c.num_dense_layers, c.num_experts,
            c.num_experts_per_tok, c.moe_intermediate_size, c.num_shared_experts * c.moe_intermediate_size, 3,
            c.tie_word_embeddings, c.attention_gate, c.sliding_window or 0, sliding, c.swiglu_limit is not None,
            c.latent, c.post_norms, c.qk_norm != "none", c.qk_norm == "width",
            sum(c.uses_rope(layer) for layer in range(c.num_hidden_layers)) / c.num_hidden_layers,
            c.topk_groups if c.num_expert_groups > 1 else 0,
        )  # fmt: skip

    @property
    def attention_products(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the products of an attention layer."""
        q, kv, h = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden
        if self.latent is None:
            return [(h, (2 if self.attention_gate else 1) * q + 2 * kv), (q, h)]
        s, n = self.latent, self.heads
        products = [(h, s.kv_lora_rank + s.qk_rope_head_dim)]
        products.append((s.kv_lora_rank, n * (s.qk_nope_head_dim + s.v_head_dim)))
        products.append((n * s.v_head_dim, h))
        if s.q_lora_rank is None:
            return [*products, (h, n * self.head_dim)]
        return [*products, (h, s.q_lora_rank), (s.q_lora_rank, n * self.head_dim)]

    @property
    def attention_parameters(self) -> int:
        """Of a layer, products only."""
        return sum(inputs * outputs for inputs, outputs in self.attention_products)

    @property
    def value_dim(self) -> int:
        """Size of a head's value."""
        return self.latent.v_head_dim if self.latent else self.head_dim

    @property
    def expert_parameters(self) -> int:
        """Of one routed expert."""
        return self.matrices * self.hidden * self.moe_ffn

    @property
    def dense_layers(self) -> int:
        """Layers without experts."""
        return self.layers - self.moe_layers

    @property
    def routed_parameters(self) -> int:
        """Of all routed experts."""
        return self.moe_layers * self.experts * self.expert_parameters

    @property
    def body_parameters(self) -> int:
        """Of everything but routed experts, embedding and head; norms are left out."""
        feed_forward = self.matrices * self.hidden * (
            self.dense_layers * self.dense_ffn + self.moe_layers * self.shared_ffn
        )  # fmt: skip
        return self.layers * self.attention_parameters + feed_forward + self.moe_layers * self.hidden * self.experts

    @property
    def parameters(self) -> int:
        """In all."""
        tables = (1 if self.tied else 2) * self.vocab * self.hidden
        return self.routed_parameters + self.body_parameters + tables

    @property
    def active_parameters(self) -> int:
        """That work on one token; the embedding counts whole, as in `model.counts`."""
        idle = self.moe_layers * (self.experts - self.topk) * self.expert_parameters
        return self.parameters - idle

    def multiplications(self, seen: float) -> float:
        """Of a token on its way forward: with the weights, of which the embedding is only looked up, and with the keys
        and values of `seen` tokens."""
        looked_up = 0 if self.tied else self.vocab * self.hidden
        scores = self.layers * self.heads * (self.head_dim + self.value_dim) * seen
        return self.active_parameters - looked_up + scores

    def seen(self, length: int) -> float:
        """Tokens that a token sees, itself included: the mean over a sequence and the layers."""
        full = (length + 1) / 2
        if not self.windows:
            return full
        near = min(self.window, length)
        within = (near * (near + 1) / 2 + (length - near) * near) / length
        return full + (within - full) * self.windows / self.layers


ADDED = re.compile(r"^meta-|[-_ ](hf|base|instruct(-\d{4})?|chat|it|v0\.\d)$")
"""What released checkpoints' names add to those of their networks."""


@cache
def networks() -> dict[str, Dimensions]:
    """Published networks by all their names, as `plain` has them."""
    found = {}
    for name, table in tomllib.loads((DATA / "networks.toml").read_text(encoding="utf-8")).items():
        shape = _read(name, table)
        for other in (name, *table.get("names", [])):
            found[plain(other)] = shape
    return found


def network_named(name: str) -> Dimensions | None:
    """The published network of a name, however it is spelt, with or without a remark in brackets behind it, an
    organisation before it and what Hugging Face's names add ("Meta-Llama-3-8B-Instruct"); None where it is unknown."""
    for text in (name, name.partition(" (")[0].partition(" [")[0]):
        bare = text.rpartition("/")[2]
        if found := networks().get(plain(bare)) or networks().get(plain(ADDED.sub("", bare.lower()))):
            return found
    return None


def resized(shape: Dimensions, layers: int) -> Dimensions:
    """The same network with fewer or more layers; dense ones at its beginning stay."""
    if layers == shape.layers or not layers:
        return shape
    share = layers / shape.layers
    moe = layers - shape.dense_layers if shape.dense_layers < 4 else round(shape.moe_layers * share)
    return replace(shape, layers=layers, moe_layers=min(layers, moe) if shape.moe_layers else 0,
                   windows=round(shape.windows * share))  # fmt: skip


def _read(name: str, table: dict[str, Any]) -> Dimensions:
    sizes = {key: value for key, value in table.items() if key not in ("names", "source", "latent")}
    latent = Latent(**table["latent"]) if "latent" in table else None
    return Dimensions(name=name, latent=latent, **sizes)
