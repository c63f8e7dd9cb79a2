"""A decoder's weights as the library has them: packed once, with the addresses of all in the library's structures."""

import ctypes
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from troth.model.attention import Attention
from troth.model.decoder import Decoder, DecoderLayer
from troth.model.families.weights import StoredDecoder
from troth.model.latent_attention import LatentAttention
from troth.model.moe import FeedForward, MoE
from troth.model.mtp import MTPModule
from troth.model.norm import RMSNorm
from troth.model.rope import rotary_periods
from troth.serve.engine.adapters import Adapters
from troth.serve.engine.cpu.adapters import AdapterPack
from troth.serve.engine.cpu.library import Latents, Layer, Matrix, Model, Unit
from troth.serve.engine.cpu.pack import WIDE, Arena, WeightKind, interleaved, number_of
from troth.serve.engine.kv_cache import KVCache

_QK_NORMS = ("none", "head", "width")
_NARROW = {"int8": 5, "fp8": 6}
_NAMES: dict[torch.dtype, WeightKind] = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class PackedDecoder:
    """The weights of `model` in one kind, those of routed experts perhaps in another, with its adapters'; `decoder` has
    their addresses. Layers that are `stored` yet are in memory only while they are packed."""

    def __init__(
        self, model: Decoder, cache: KVCache, kind: WeightKind, adapters: Adapters | None,
        stored: StoredDecoder | None = None, experts: WeightKind | None = None,
    ):  # fmt: skip
        config = model.config
        self.config, self.cache, self.kind, self.experts = config, cache, kind, experts or kind
        self.arena = Arena()
        self.adapters = AdapterPack(self.arena, model, adapters)
        self._cached = {name: getattr(cache, name) for name in ("keys", "values", "key_scales", "value_scales")}
        layers = (Layer * config.num_hidden_layers)()
        for number, layer in enumerate(model.layers.values()):
            assert isinstance(layer, DecoderLayer)
            with stored.lent(layer) if stored else nullcontext():
                layers[number] = self._layer(layer, number)
        self.decoder = self._whole(model, layers)

    def module(self, module: MTPModule) -> Model:
        """A module of multi-token prediction, its layer the first behind the decoder's, with the decoder's embedding
        and head."""
        whole = Model.from_buffer_copy(self.decoder)
        layers = (Layer * 1)(self._layer(module.layer, self.config.num_hidden_layers))
        whole.layers, whole.layer, whole.rank, whole.embedding_scale = 1, layers, 0, 1.0
        whole.final_norm, whole.state_norm = self._norm(module.norm), self._norm(module.hnorm)
        whole.embedding_norm, whole.join = self._norm(module.enorm), self._linear(module.eh_proj)
        return whole

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
        matrix.adapters = self.adapters.linear(layers, kind)
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
        """Routed experts, then what every token goes through, and how many the first are; all in one kind, as the rows
        that they are given."""
        found, kind = [], self.experts if isinstance(mlp, MoE) else self.kind
        if isinstance(mlp, MoE):
            experts = mlp.experts
            for number in range(self.config.num_experts):
                biases = (None if part is None else part[number] for part in (experts.gate_up_bias, experts.down_bias))
                unit = self._unit(kind, experts.gate_up_proj[number], experts.down_proj[number], *biases)
                unit.gate_up.adapters = self.adapters.expert(experts, number, "gate_up", kind)
                unit.down.adapters = self.adapters.expert(experts, number, "down", kind)
                found.append(unit)
        routed = len(found)
        other = mlp.shared_experts if isinstance(mlp, MoE) else mlp
        if other is not None:
            gate_up = torch.stack((other.gate_proj.weight, other.up_proj.weight))
            unit = self._unit(kind, gate_up, other.down_proj.weight)
            unit.gate_up.adapters = self.adapters.linear((other.gate_proj, other.up_proj), kind, meet=True)
            unit.down.adapters = self.adapters.linear((other.down_proj,), kind)
            found.append(unit)
        return (Unit * len(found))(*found), routed

    def _unit(
        self, kind: WeightKind, gate_up_2SD: torch.Tensor, down_DS: torch.Tensor,
        gate_up_bias_2S: torch.Tensor | None = None, down_bias_D: torch.Tensor | None = None,
    ) -> Unit:  # fmt: skip
        return Unit(
            self.arena.matrix(
                interleaved(gate_up_2SD), kind,
                None if gate_up_bias_2S is None else interleaved(gate_up_bias_2S[..., None])[:, 0],
            ),
            self.arena.matrix(down_DS, kind, down_bias_D),
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
            final_norm=self._norm(model.norm), head=head, layer=layers, rank=self.adapters.rank,
        )  # fmt: skip


def _cache_kind(cache: KVCache) -> int:
    """The number of the cache's kind; latents are widened, in which their sums are made as well."""
    if cache.config.latent and cache.kind == "auto" and cache.dtype == torch.bfloat16:
        return WIDE
    return _NARROW.get(cache.kind) or number_of(_NAMES[cache.dtype])
