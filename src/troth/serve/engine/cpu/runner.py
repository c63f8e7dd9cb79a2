"""The forward pass of a step in C++: which networks it can run, and the runner of those."""

from collections.abc import Sequence as Items

import torch

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.families.weights import StoredDecoder
from troth.model.moe import MoE
from troth.model.mtp import MTPModule
from troth.serve.engine.adapters import Adapters
from troth.serve.engine.cpu.library import load
from troth.serve.engine.cpu.pack import WeightKind
from troth.serve.engine.cpu.steps import Steps
from troth.serve.engine.cpu.weights import PackedDecoder
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.sampling_params import SamplingParams
from troth.serve.engine.scheduler import Chunk

_BLOCK, _LARGEST_HEAD, _LARGEST_LATENT, _MOST_EXPERTS = 16, 256, 512, 1024


def why_not(config: ModelConfig) -> str | None:
    """Why a network cannot be run here and needs the decoder in torch; None where it can."""
    if load() is None:
        return "no compiled library, or none for this processor (it needs AVX2 and FMA, or 64-bit ARM)"
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
    """Runs steps of up to `most_rows` tokens on `threads` threads with weights of one kind, routed experts perhaps in
    another.

    `adapters` are those that a chunk may name; they are not joined to the model. With `keeps_states`, `states_TD` are
    the hidden states of all tokens of the latest step. The cache's memory is used in an order of its own: whoever else
    reads it finds other numbers. Results do not depend on what else is in a step, nor on how prompts are cut, in any
    kind of weights. A layer's `observe` is told of the wanted tokens only.
    """

    def __init__(
        self, model: Decoder, cache: KVCache, kind: WeightKind, most_rows: int, threads: int,
        adapters: Adapters | None = None, keeps_states: bool = False, stored: StoredDecoder | None = None,
        experts: WeightKind | None = None,
    ):  # fmt: skip
        assert why_not(model.config) is None
        assert cache.block_size == _BLOCK
        self.config, self.kind, self.keeps_states = model.config, kind, keeps_states
        self.most_rows, self.threads = most_rows, threads
        self.states_TD = torch.empty(0)
        self._routed = {
            number: layer.mlp for number, layer in enumerate(model.layers.values()) if isinstance(layer.mlp, MoE)
        }
        self.weights = PackedDecoder(model, cache, kind, adapters, stored, experts)
        self._steps = Steps(self.weights.decoder, most_rows, threads)

    def run(self, chunks: Items[Chunk], wanted: list[int]) -> torch.Tensor:
        """Scores over the vocabulary, float32 [wanted, vocabulary], of the step's tokens at these places."""
        logits_WV = torch.empty(len(wanted), self.config.vocab_size)
        self._step(chunks, wanted, logits_WV, self.keeps_states)
        if self.config.logit_scale != 1:
            logits_WV *= self.config.logit_scale
        cap = self.config.logit_softcap
        return logits_WV if cap is None else logits_WV.div_(cap).tanh_().mul_(cap)

    def draw(self, logits_SV: torch.Tensor, params: Items[SamplingParams], uniform_S: Items[float]) -> list[int]:
        """As `Drawer.draw`."""
        return self._steps.draw(logits_SV, params, uniform_S)

    def likeliest(
        self, logits_SV: torch.Tensor, count: int
    ) -> tuple[list[float], list[list[int]], list[list[float]]]:
        """As `Drawer.likeliest`."""
        return self._steps.likeliest(logits_SV, count)

    def hidden(self, chunks: Items[Chunk]) -> torch.Tensor:
        """Hidden states of all the step's tokens after the last norm, float32 [tokens, hidden]."""
        self._step(chunks, [], None, keeps_states=True)
        return self.states_TD

    def _step(
        self, chunks: Items[Chunk], wanted: list[int], logits_WV: torch.Tensor | None, keeps_states: bool
    ) -> None:  # fmt: skip
        tokens = [token for chunk in chunks for token in chunk.tokens]
        observers = {number: moe.observe for number, moe in self._routed.items() if moe.observe is not None}
        shape = (self.config.num_hidden_layers, len(wanted), self.config.num_experts_per_tok)
        experts_LWk = torch.empty(shape, dtype=torch.int32) if observers else None
        gates_LWk = torch.empty(shape) if observers else None
        states_TD = torch.empty(len(tokens), self.config.hidden_size) if keeps_states else None
        adapters = [self.weights.adapters.number(chunk.adapter) for chunk in chunks]
        self._steps(chunks, adapters, tokens, wanted, logits_WV, states_TD, None, experts_LWk, gates_LWk)
        if states_TD is not None:
            self.states_TD = states_TD
        if experts_LWk is not None and gates_LWk is not None:
            for number, observe in observers.items():
                observe(gates_LWk[number], experts_LWk[number].long())


class CpuModule:
    """A module of multi-token prediction behind a runner's decoder: `drafts.Module` in C++."""

    def __init__(self, runner: CpuRunner, module: MTPModule):
        self.weights = runner.weights
        self._steps = Steps(self.weights.module(module), runner.most_rows, runner.threads)

    def scores(self, states_TD: torch.Tensor, chunks: Items[Chunk], told: list[int], last: list[int]) -> torch.Tensor:
        """As `drafts.Module` has it, but for the scale and the cap of the scores, which change no order."""
        logits_CV = torch.empty(len(last), self.weights.config.vocab_size)
        self._steps(chunks, [-1] * len(chunks), told, last, logits_CV, given_TD=states_TD.contiguous())
        return logits_CV
