"""LoRA adapters in the C++ library: each row of a step gets what its own adapter adds, as in torch, in any company."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from troth.model.adapters import save_adapters
from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.experts import Experts
from troth.model.lora import adapt
from troth.serve.engine.adapters import Adapters
from troth.serve.engine.cpu.runner import CpuRunner
from troth.serve.engine.engine import Engine
from troth.serve.engine.packed_weights import pack_weights
from troth.serve.engine.request import Request
from troth.serve.engine.runner import TorchRunner
from troth.serve.engine.sampling_params import SamplingParams
from troth.serve.engine.scheduler import Chunk
from troth.system.serve import ServeTable
from troth.train.lora import adapters as adapter_parameters

from .steps import LATENTS, NETWORKS, Text, cache, network, one_by_one, scores, together

pytestmark = pytest.mark.usefixtures("kernels")

NAMES = "all", None, "queries", "experts"
"""Whose each text is."""


def random_adapters(model: Decoder, folder: Path) -> Adapters:
    """One of every part with a rank beyond a panel of joined outputs, one of queries and the last layer's values alone,
    one of feed-forwards."""
    places = [name for name, part in model.named_modules() if isinstance(part, nn.Linear | Experts)]
    chosen = {
        "all": ([place for place in places if not place.endswith("kv_b_proj")], 40),
        "queries": ([place for place in places if ".q_" in place or place.endswith("1.self_attn.v_proj")], 2),
        "experts": ([place for place in places if ".mlp." in place and "router" not in place], 5),
    }
    for seed, (name, (own, rank)) in enumerate(chosen.items()):
        adapted = Decoder(model.config)
        adapt(adapted, own, rank, alpha=0.7 * rank)
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for _, parameter in adapter_parameters(adapted):
                parameter.normal_(0, 0.1, generator=random)
        save_adapters(adapted, folder / name, "the model")
    return Adapters(model, {name: folder / name for name in chosen})


@pytest.fixture
def adapted_texts(texts: list[Text]) -> list[Text]:
    return [replace(text, request=Request((0,), adapter=name)) for text, name in zip(texts, NAMES, strict=True)]


def in_torch(model: Decoder, adapters: Adapters, steps: Iterator[list[Chunk]]) -> torch.Tensor:
    adapters.join(model)
    return scores(TorchRunner(model, cache(model), adapters), steps)


@pytest.mark.parametrize("name", ["native", "Qwen3", "gpt-oss", "DeepSeek-V3", "DeepSeek-V2-Lite"])
def test_scores_are_those_of_the_adapted_decoder(
    config: ModelConfig, adapted_texts: list[Text], tmp_path: Path, name: str
):
    model = network(config, (NETWORKS | LATENTS)[name])
    adapters = random_adapters(model, tmp_path)
    plain = scores(
        CpuRunner(model, cache(model), "float32", 900, 2, adapters),
        together([replace(text, request=Request((0,))) for text in adapted_texts]),
    )
    found = scores(CpuRunner(model, cache(model), "float32", 900, 2, adapters), together(adapted_texts))
    expected = in_torch(model, adapters, together(adapted_texts))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)
    apart = (found - plain).view(3, len(NAMES), -1).norm(dim=(0, 2)) / plain.view(3, len(NAMES), -1).norm(dim=(0, 2))
    assert apart[1] == 0
    assert (apart[[0, 2, 3]] > 0.01).all()


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("name", ["native", "DeepSeek-V3"])
def test_scores_do_not_depend_on_company_or_cut(
    config: ModelConfig, adapted_texts: list[Text], tmp_path: Path, name: str, kind: str
):
    model = network(config, (NETWORKS | LATENTS)[name])
    adapters = random_adapters(model, tmp_path)
    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    expected = scores(CpuRunner(model, cache(model, dtype), kind, 900, 2, adapters), together(adapted_texts))
    alone = CpuRunner(model, cache(model, dtype), kind, 97, 1, adapters)
    assert torch.equal(one_by_one(alone, adapted_texts), expected)


@pytest.mark.parametrize(("kind", "near"), [("bfloat16", 0.02), ("int8", 0.06), ("int4", 0.06)])
def test_on_narrow_weights_adapters_add_nearly_what_they_add_to_their_rounded_values(
    config: ModelConfig, adapted_texts: list[Text], tmp_path: Path, kind: str, near: float
):
    model = network(config, NETWORKS["Qwen3"] | {"num_experts_per_tok": 4, "num_hidden_layers": 1})
    adapters = random_adapters(model, tmp_path)
    found = scores(CpuRunner(model, cache(model, torch.bfloat16), kind, 900, 2, adapters), together(adapted_texts))
    if kind != "bfloat16":
        pack_weights(model, kind)
    expected = in_torch(model, adapters, together(adapted_texts))
    assert (found - expected).norm() / expected.norm() < near


def test_an_engine_with_adapters_runs_its_steps_in_the_library(config: ModelConfig, tokenizer, tmp_path: Path):
    """Greedy texts and embeddings of an adapter alone are those beside others."""
    model = network(config, NETWORKS["native"])
    random_adapters(model, tmp_path)
    folders = {name: tmp_path / name for name in ("all", "queries", "experts")}
    engine = Engine(model, tokenizer, ServeTable(cache_tokens=2048), adapters=folders)
    assert isinstance(engine.runner, CpuRunner)
    engine.release()
    greedy = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)

    def request(name: str | None, pooled: bool = False) -> Request:
        return Request(tuple(range(10, 60)), greedy, adapter=name, pooled=pooled)

    alone = [engine.generate([request(name)])[0] for name in NAMES]
    beside = engine.generate([request(name) for name in NAMES])
    tokens = [[[token.id for output in found for token in output.tokens] for found in run] for run in (alone, beside)]
    assert tokens[0] == tokens[1]
    assert len({tuple(text) for text in tokens[0]}) == len(NAMES)
    embeddings = [engine.generate([request(name, pooled=True)])[0][-1].embedding for name in NAMES]
    assert len({tuple(embedding) for embedding in embeddings}) == len(NAMES)
