"""Networks of every kind, texts in a cache and the steps by which runners are compared."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from troth.model.config import ModelConfig, Yarn
from troth.model.decoder import Decoder
from troth.model.initialise import initialise
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.kv_quantise import KVCacheDtype
from troth.serve.engine.request import Request
from troth.serve.engine.runner import Runner
from troth.serve.engine.scheduler import Chunk

PLAIN = {
    "attention_gate": False, "post_norms": False, "num_dense_layers": 0, "num_shared_experts": 0,
    "router_score": "softmax", "rope_layers": "all", "mup_enabled": False,
}  # fmt: skip
NETWORKS = {
    "native": {},
    "Qwen3": PLAIN | {"tie_word_embeddings": True},
    "OLMoE": PLAIN | {"qk_norm": "width", "head_dim": 32},
    "Grok": {
        "qk_norm": "none", "attention_softcap": 5.0, "router_softcap": 3.0, "logit_softcap": 7.0, "logit_scale": 0.5,
        "activation": "gelu_tanh", "attention_temperature_len": 8, "router_score": "softmax", "norm_topk_prob": False,
    },
    "gpt-oss": PLAIN | {
        "biases": True, "attention_sinks": True, "swiglu_limit": 1.0, "qk_norm": "none",
        "yarn": Yarn(factor=4, original_max_position_embeddings=64),
    },
    "groups of experts": {
        "num_experts": 16, "num_expert_groups": 4, "topk_groups": 2, "num_experts_per_tok": 3, "route_scale": 2.5,
        "feed_forward_scale": 0.5, "head_dim": 80, "num_attention_heads": 6,
    },
}  # fmt: skip
LATENT = {"q_lora_rank": 48, "kv_lora_rank": 96, "qk_nope_head_dim": 24, "qk_rope_head_dim": 16, "v_head_dim": 40}
LATENTS = {
    "DeepSeek-V3": PLAIN | {
        "qk_norm": "none", "head_dim": 40, "latent": LATENT, "num_shared_experts": 1, "num_dense_layers": 1,
        "rms_norm_eps": 0.01, "router_score": "sigmoid", "num_expert_groups": 2, "topk_groups": 1, "route_scale": 2.5,
        "yarn": Yarn(factor=4, original_max_position_embeddings=64, mscale=1, mscale_all_dim=1),
    },
    "DeepSeek-V2-Lite": PLAIN | {
        "qk_norm": "none", "head_dim": 40, "latent": LATENT | {"q_lora_rank": None}, "num_attention_heads": 8,
    },
}  # fmt: skip
WHOLE = [("float32", "auto"), ("bfloat16", "auto"), ("int8", "auto"), ("int4", "auto"), ("mxfp4", "auto")]
IN_8_BIT = [("float32", "int8"), ("bfloat16", "int8"), ("bfloat16", "fp8")]
"""Kinds of weights, and of keys and values; latents in 8 bit are left to torch."""
LENGTHS = 300, 5, 33, 520
BLOCKS = 80


@dataclass
class Text:
    tokens: list[int]
    blocks: list[int]
    request: Request = field(default_factory=lambda: Request((0,)))
    drafts: list[int] = field(default_factory=list)

    @property
    def sliding_blocks(self) -> list[int]:
        return self.blocks


@torch.no_grad()
def network(config: ModelConfig, changes: dict) -> Decoder:
    sizes = {"hidden_size": 64, "moe_intermediate_size": 40}  # 40 leaves a remainder in panels and groups
    model = initialise(Decoder(ModelConfig(**(config.model_dump() | sizes | changes))), 3)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    for moe in model.moe_layers():
        moe.router.gate.weight.normal_(generator=generator)  # they begin at zero, and all experts alike
        if moe.steered:
            moe.expert_bias.copy_(0.1 * torch.randn(moe.expert_bias.shape, generator=generator))
    return model.eval()


def random_texts() -> list[Text]:
    rng = random.Random(5)
    free = list(range(BLOCKS))
    rng.shuffle(free)
    found = []
    for length in LENGTHS:
        blocks = [free.pop() for _ in range(-(-(length + 2) // 16))]
        found.append(Text([rng.randrange(400) for _ in range(length + 2)], blocks))
    return found


def cache(model: Decoder, dtype: torch.dtype = torch.float32, kind: KVCacheDtype = "auto") -> KVCache:
    return KVCache(model.config, BLOCKS, BLOCKS, 16, dtype, torch.device("cpu"), kind=kind)


def together(texts: list[Text]) -> Iterator[list[Chunk]]:
    """The prompts in one step, then two steps of a token each."""
    yield [Chunk(text, 0, length, 1) for text, length in zip(texts, LENGTHS, strict=True)]
    for more in range(2):
        yield [Chunk(text, length + more, 1, 1) for text, length in zip(texts, LENGTHS, strict=True)]


def scores(runner: Runner, steps: Iterator[list[Chunk]]) -> torch.Tensor:
    found = []
    for chunks in steps:
        ends = torch.tensor([chunk.count for chunk in chunks]).cumsum(0) - 1
        found.append(runner.run(chunks, ends.tolist()))
    return torch.cat(found)


def one_by_one(runner: Runner, texts: list[Text]) -> torch.Tensor:
    """The same scores of a runner that has one text in a step, and at most 97 tokens of it."""
    found = []
    for text, length in zip(texts, LENGTHS, strict=True):
        for start in range(0, length, 97):
            count = min(97, length - start)
            last = runner.run([Chunk(text, start, count, 1)], [count - 1])
        found.append(torch.cat([last, *(runner.run([Chunk(text, length + more, 1, 1)], [0]) for more in range(2))]))
    return torch.stack(found, 1).flatten(0, 1)
