"""A small shape, a network with random weights everywhere, and a tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.norm import RMSNorm
from troth.model.tokenizer import Tokenizer

VOCABULARY = 400
KINDS = {
    "plain": {},
    "softcap": {"softcap": 1.5},
    "temperature": {"temperature": True},
    "sinks": {"sinks": True},
    "all": {"softcap": 0.7, "temperature": True, "sinks": True},
}
"""What may become of scores, one by one and all at once."""


@pytest.fixture(scope="session")
def shape() -> Callable[..., ModelConfig]:
    """`shape(num_experts=2)` is the small shape with another number of experts."""
    small = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 4,
        "num_dense_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "num_shared_experts": 1,
        "sliding_window": 8,
        "max_position_embeddings": 128,
    }
    return lambda **changes: ModelConfig(**(small | changes))


@pytest.fixture(scope="session")
def random_network() -> Callable[[ModelConfig], Decoder]:
    """A network in which nothing is zero or one: norms, routers and the bias that steers them are random too."""

    @torch.no_grad()
    def build(config: ModelConfig) -> Decoder:
        generator = torch.Generator().manual_seed(1)
        model = Decoder(config)
        for parameter in model.parameters():
            parameter.normal_(0, 0.15, generator=generator)
        for module in model.modules():
            if isinstance(module, RMSNorm):
                module.weight.uniform_(0.5, 1.5, generator=generator)
        for moe in model.moe_layers():
            moe.router.gate.weight.normal_(0, 0.5, generator=generator)
            moe.expert_bias.uniform_(-0.3, 0.3, generator=generator)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    source = Path(json.__file__).read_text(encoding="utf-8")
    others = "Ein Unglück kommt selten allein. Écoute et répète. 東京 は 晴れ 🙂 " * 20
    return Tokenizer.train(iter([source, others]), VOCABULARY)
