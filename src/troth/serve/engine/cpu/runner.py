"""The forward pass of a step in C++: a decoder's weights are packed once, a step is one call that allocates nothing."""

import ctypes
from collections.abc import Sequence as Items
from typing import Any

import numpy as np
import torch
from torch import nn

from troth.model.attention import Attention
from troth.model.config import ModelConfig
from troth.model.decoder import Decoder, DecoderLayer
from troth.model.latent_attention import LatentAttention
from troth.model.moe import FeedForward, MoE
from troth.model.norm import RMSNorm
from troth.model.rope import rotary_periods
from troth.serve.engine.adapters import Adapters
from troth.serve.engine.cpu.adapters import AdapterPack
from troth.serve.engine.cpu.library import Latents, Layer, Matrix, Model, Span, Unit, load
from troth.serve.engine.cpu.pack import WIDE, Arena, WeightKind, interleaved, number_of
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.scheduler import Chunk

_BLOCK, _LARGEST_HEAD, _LARGEST_LATENT, _MOST_EXPERTS = 16, 256, 512, 1024
_QK_NORMS = ("none", "head", "width")
_NARROW = {"int8": 5, "fp8": 6}
_NAMES: dict[torch.dtype, WeightKind] = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def why_not(config: ModelConfig) -> str | None:
    """Why a network cannot be run here and needs the decoder in torch; None where it can."""
    if load() is None:
        return "no compiled library, or none for this processor (it needs AVX2 and FMA)"
    if config.latent:
        if not latents_fit(config):
            return f"latents of {config.latent}"
    elif config.head_dim % 16 or config.head_dim > _LARGEST_HEAD or config.num_attention_heads * config.head_dim % 32:
        return f"heads of {config.head_dim}"
    if config.hidden_size % 32:
        return f"hidden size {config.hidden_size}"
    if config.num_experts > _MOST_EXPERTS:
        return f"{config.num_experts} experts"
    return None


def latents_fit(config: ModelConfig) -> bool:
    """Whether latent attention of these sizes can be run here: the library's vectors divide them."""
    sizes = config.latent
    assert sizes is not None
    steps = (sizes.kv_lora_rank, 32), (sizes.qk_rope_head_dim, 16), (sizes.q_lora_rank or 0, 16)
    whole = all(size % step == 0 for size, step in (*steps, (config.num_attention_heads * sizes.v_head_dim, 32)))
    small = max(sizes.kv_lora_rank, sizes.qk_nope_head_dim) <= _LARGEST_LATENT
    return whole and small and sizes.qk_rope_head_dim <= _LARGEST_HEAD


class CpuRunner:
    """Runs steps of up to `most_rows` tokens on `threads` threads with weights of one kind.

    `adapters` are those that a chunk may name; they are not joined to the model. The cache's memory is used in an order
    of its own: whoever else reads it finds other numbers. Results do not depend on what else is in a step, nor on how
    prompts are cut, in any kind of weights. A layer's `observe` is told of the wanted tokens only.
    """

    def __init__(
        self, model: Decoder, cache: KVCache, kind: WeightKind, most_rows: int, threads: int,
        adapters: Adapters | None = None,
    ):  # fmt: skip
        config = model.config
        assert why_not(config) is None
        assert cache.block_size == _BLOCK
        self.config, self.cache, self.kind = config, cache, kind
        self.most_rows = most_rows
        self._cached = {name: getattr(cache, name) for name in ("keys", "values", "key_scales", "value_scales")}
        self._routed = {
            number: layer.mlp for number, layer in enumerate(model.layers.values()) if isinstance(layer.mlp, MoE)
        }
        self.arena = Arena()
        self._adapters = AdapterPack(self.arena, model, adapters)
        layers = (Layer * config.num_hidden_layers)()
        for number, layer in enumerate(model.layers.values()):
            assert isinstance(layer, DecoderLayer)
            layers[number] = self._layer(layer, number)
        self._model = self._whole(model, layers)
        library = load()
        assert library is not None
        self._library = library
        self._decoder = self._library.troth_open(ctypes.byref(self._model), most_rows, threads)

    def __del__(self) -> None:
        if getattr(self, "_decoder", None):
            self._library.troth_close(self._decoder)

    def run(self, chunks: Items[Chunk], wanted: list[int]) -> torch.Tensor:
        """Scores over the vocabulary, float32 [wanted, vocabulary], of the step's tokens at these places."""
        logits_WV = torch.empty(len(wanted), self.config.vocab_size)
        self._step(chunks, wanted, logits_WV.data_ptr(), None)
        if self.config.logit_scale != 1:
            logits_WV *= self.config.logit_scale
        cap = self.config.logit_softcap
        return logits_WV if cap is None else logits_WV.div_(cap).tanh_().mul_(cap)

    def hidden(self, chunks: Items[Chunk]) -> torch.Tensor:
        """Hidden states of all the step's tokens after the last norm, float32 [tokens, hidden]."""
        count = sum(chunk.count for chunk in chunks)
        states_TD = torch.empty(count, self.config.hidden_size)
        self._step(chunks, list(range(count)), None, states_TD.data_ptr())
        return states_TD

    def _step(self, chunks: Items[Chunk], wanted: list[int], logits: int | None, states: int | None) -> None:
        tokens: list[int] = []
        spans = (Span * len(chunks))()
        held = []
        for span, chunk in zip(spans, chunks, strict=True):
            tables = [np.array(table, dtype=np.int32) for table in (chunk.blocks, chunk.sliding_blocks)]
            held += tables
            span.row, span.count, span.start = len(tokens), chunk.count, chunk.start
            span.adapter = self._adapters.number(chunk.adapter)
            span.blocks, span.window_blocks = (table.ctypes.data for table in tables)
            tokens += chunk.tokens
        assert len(tokens) <= self.most_rows, f"{len(tokens)} tokens in a step for {self.most_rows}"
        token_T, wanted_W = np.array(tokens, dtype=np.int32), np.array(wanted, dtype=np.int32)
        observers = {number: moe.observe for number, moe in self._routed.items() if moe.observe is not None}
        shape = (self.config.num_hidden_layers, len(wanted), self.config.num_experts_per_tok)
        experts_LWk = torch.empty(shape, dtype=torch.int32) if observers else None
        gates_LWk = torch.empty(shape) if observers else None
        self._library.troth_step(
            self._decoder, token_T.ctypes.data, len(tokens), spans, len(chunks), wanted_W.ctypes.data, len(wanted),
            logits, states, *(None if part is None else part.data_ptr() for part in (experts_LWk, gates_LWk)),
        )  # fmt: skip
        if experts_LWk is not None and gates_LWk is not None:
            for number, observe in observers.items():
                observe(gates_LWk[number], experts_LWk[number].long())

    def _float(self, tensor: torch.Tensor | None) -> int | None:
        return None if tensor is None else self.arena.keep(tensor, torch.float32)

    def _norm(self, norm: nn.Module | None) -> int | None:
        return self._float(norm.weight) if isinstance(norm, RMSNorm) else None

    def _linear(
        self, *layers: nn.Linear, bias: torch.Tensor | None = None, kind: WeightKind | None = None
    ) -> Matrix:  # fmt: skip
        """Layers whose outputs are joined, with their adapters."""
        kind = kind or self.kind
        matrix = self.arena.matrix(torch.cat([layer.weight for layer in layers]), kind, bias)
        matrix.adapters = self._adapters.linear(layers, kind)
        return matrix

    def _layer(self, layer: DecoderLayer, number: int) -> Layer:
        config, attention = self.config, layer.self_attn
        assert isinstance(attention, Attention | LatentAttention)
        units, routed = self._units(layer.mlp)
        router, expert_bias = Matrix(), None
        if isinstance(layer.mlp, MoE):
            gate = layer.mlp.router.gate
            router = self._linear(gate, kind="float32", bias=gate.bias)
            expert_bias = self._float(layer.mlp.expert_bias)
        sliding = config.layer_type(number) == "sliding_attention"
        return Layer(
            input_norm=self._norm(layer.input_layernorm),
            post_attention_norm=self._norm(layer.post_attention_layernorm),
            pre_mlp_norm=self._norm(layer.pre_mlp_layernorm), post_mlp_norm=self._norm(layer.post_mlp_layernorm),
            o=self._linear(attention.o_proj, bias=attention.o_proj.bias),
            router=router, expert_bias=expert_bias, units=units, routed=routed, others=len(units) - routed,
            rotary=int(config.uses_rope(number)), window=config.window if sliding else 0,
            **self._attention(attention) if isinstance(attention, Attention) else self._latent_attention(attention),
            **{name: part[number].data_ptr() for name, part in self._cached.items() if part and part[number].numel()},
        )  # fmt: skip

    def _attention(self, attention: Attention) -> dict[str, Any]:
        joined = [attention.q_proj, attention.k_proj, attention.v_proj]
        if attention.gate_proj is not None:
            joined.append(attention.gate_proj)
        # The gate has no bias where the others have one.
        biases = [torch.zeros(len(one.weight)) if one.bias is None else one.bias.float() for one in joined]
        bias = torch.cat(biases) if self.config.biases else None
        return {
            "qkv": self._linear(*joined, bias=bias),
            "q_norm": self._norm(attention.q_norm), "k_norm": self._norm(attention.k_norm),
            "sinks": self._float(attention.sinks),
        }  # fmt: skip

    def _latent_attention(self, attention: LatentAttention) -> dict[str, Any]:
        sizes, matrix = attention.latent, self.arena.matrix
        w_Hxc = attention.kv_b_proj.weight.detach().unflatten(0, (attention.heads, -1))
        keys_Hnc, values_Hvc = w_Hxc.split((sizes.qk_nope_head_dim, sizes.v_head_dim), dim=1)
        keys, values = (
            (Matrix * attention.heads)(*(matrix(weight, self.kind) for weight in weights))
            for weights in (keys_Hnc.transpose(1, 2), values_Hvc)
        )
        latents = Latents(norm=self._norm(attention.kv_a_layernorm), keys=keys, values=values)
        first = attention.q_proj if sizes.q_lora_rank is None else attention.q_a_proj
        if sizes.q_lora_rank is not None:
            latents.queries = self._linear(attention.q_b_proj)
            latents.query_norm = self._norm(attention.q_a_layernorm)
        return {"qkv": self._linear(first, attention.kv_a_proj_with_mqa), "latents": latents}

    def _units(self, mlp: MoE | FeedForward) -> "tuple[ctypes.Array[Unit], int]":
        """Routed experts, then what every token goes through, and how many the first are."""
        found = []
        if isinstance(mlp, MoE):
            experts = mlp.experts
            for number in range(self.config.num_experts):
                biases = (None if part is None else part[number] for part in (experts.gate_up_bias, experts.down_bias))
                unit = self._unit(experts.gate_up_proj[number], experts.down_proj[number], *biases)
                unit.gate_up.adapters = self._adapters.expert(experts, number, "gate_up", self.kind)
                unit.down.adapters = self._adapters.expert(experts, number, "down", self.kind)
                found.append(unit)
        routed = len(found)
        other = mlp.shared_experts if isinstance(mlp, MoE) else mlp
        if other is not None:
            gate_up = torch.stack((other.gate_proj.weight, other.up_proj.weight))
            unit = self._unit(gate_up, other.down_proj.weight)
            unit.gate_up.adapters = self._adapters.linear((other.gate_proj, other.up_proj), self.kind, meet=True)
            unit.down.adapters = self._adapters.linear((other.down_proj,), self.kind)
            found.append(unit)
        return (Unit * len(found))(*found), routed

    def _unit(
        self, gate_up_2SD: torch.Tensor, down_DS: torch.Tensor, gate_up_bias_2S: torch.Tensor | None = None,
        down_bias_D: torch.Tensor | None = None,
    ) -> Unit:  # fmt: skip
        return Unit(
            self.arena.matrix(
                interleaved(gate_up_2SD), self.kind,
                None if gate_up_bias_2S is None else interleaved(gate_up_bias_2S[..., None])[:, 0],
            ),
            self.arena.matrix(down_DS, self.kind, down_bias_D),
        )  # fmt: skip

    def _whole(self, model: Decoder, layers: "ctypes.Array[Layer]") -> Model:
        config, latent = self.config, self.config.latent
        kv_heads, key_size, value_size = config.cache_shape
        periods = rotary_periods(config)
        embedding = model.embed_tokens.weight
        embedding_dtype = torch.float32 if self.kind == "float32" else torch.bfloat16
        clamped = config.swiglu_limit is not None
        head = self._linear(model.lm_head)
        return Model(
            hidden=config.hidden_size, vocabulary=config.vocab_size, layers=config.num_hidden_layers,
            heads=config.num_attention_heads, kv_heads=kv_heads, head_size=key_size, turned=config.rotary_dim,
            value_size=latent.v_head_dim if latent else value_size,
            latent=latent.kv_lora_rank if latent else 0, own=latent.qk_nope_head_dim if latent else 0,
            query_latent=(latent.q_lora_rank or 0) if latent else 0,
            top_k=config.num_experts_per_tok, groups=config.num_expert_groups, top_groups=config.topk_groups,
            softmax_router=config.router_score == "softmax", normalised_gates=config.norm_topk_prob,
            qk_norm=_QK_NORMS.index(config.qk_norm), gated_attention=config.attention_gate and not latent,
            activation=2 if clamped else int(config.activation == "gelu_tanh"),
            cache_kind=_cache_kind(self.cache),
            embedding_kind=number_of(_NAMES[embedding_dtype]),
            eps=config.rms_norm_eps, embedding_scale=config.hidden_size**0.5 if config.mup_enabled else 1.0,
            attention_scale=config.attention_scale, attention_softcap=0 if latent else config.attention_softcap or 0,
            temperature_from=0 if latent else config.attention_temperature_len or 0,
            rotary_scale=config.yarn.scale if config.yarn else 1.0,
            router_softcap=config.router_softcap or 0, route_scale=config.route_scale,
            feed_forward_scale=config.feed_forward_scale,
            swiglu_limit=config.swiglu_limit or 0, swiglu_alpha=config.swiglu_alpha,
            periods=self._float(periods), embedding=self.arena.keep(embedding, embedding_dtype),
            final_norm=self._norm(model.norm), head=head, layer=layers, rank=self._adapters.rank,
        )  # fmt: skip


def _cache_kind(cache: KVCache) -> int:
    """The number of the cache's kind; latents are widened, in which their sums are made as well."""
    if cache.config.latent and cache.dtype == torch.bfloat16:
        return WIDE
    return _NARROW.get(cache.kind) or number_of(_NAMES[cache.dtype])
