"""A step in C++ gives the decoder's scores, for every kind of processor, network and weights, in any company."""

import _ctypes
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from troth.model.config import Latent
from troth.model.families.quantised import from_mxfp4
from troth.serve.engine.adapters import Adapters
from troth.serve.engine.cpu import library, pack
from troth.serve.engine.cpu.library import load
from troth.serve.engine.cpu.quantise import dequantise, quantise
from troth.serve.engine.cpu.runner import CpuRunner, why_not
from troth.serve.engine.engine import Engine
from troth.serve.engine.packed_weights import pack_weights
from troth.serve.engine.request import Request
from troth.serve.engine.runner import TorchRunner
from troth.serve.engine.sampling_params import SamplingParams
from troth.system.serve import ServeTable

from .steps import IN_8_BIT, LATENT, LATENTS, NETWORKS, WHOLE, cache, network, one_by_one, scores, together

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.mark.parametrize("changes", (NETWORKS | LATENTS).values(), ids=NETWORKS | LATENTS)
def test_scores_are_those_of_the_decoder(config, texts, changes):
    model = network(config, changes)
    expected = scores(TorchRunner(model, cache(model), Adapters(model, {})), together(texts))
    found = scores(CpuRunner(model, cache(model), "float32", 900, 2), together(texts))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kept", ["int8", "fp8"])
@pytest.mark.parametrize("changes", (NETWORKS | LATENTS).values(), ids=NETWORKS | LATENTS)
def test_a_cache_in_8_bit_holds_the_same_as_in_torch(config, texts, changes, kept):
    model = network(config, changes | {"num_hidden_layers": 1})  # in later ones a last bit moves a number by a step
    expected = scores(TorchRunner(model, cache(model, kind=kept), Adapters(model, {})), together(texts))
    found = scores(CpuRunner(model, cache(model, kind=kept), "float32", 900, 2), together(texts))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    whole = scores(CpuRunner(model, cache(model), "float32", 900, 2), together(texts))
    assert not torch.equal(found, whole)


@pytest.mark.parametrize(
    ("name", "kind", "kept"),
    [(name, *kinds) for name in ("native", "gpt-oss", "DeepSeek-V3") for kinds in WHOLE + IN_8_BIT],
)
def test_scores_do_not_depend_on_company_or_cut(config, texts, name, kind, kept):
    model = network(config, (NETWORKS | LATENTS)[name])
    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    expected = scores(CpuRunner(model, cache(model, dtype, kept), kind, 900, 2), together(texts))
    alone = CpuRunner(model, cache(model, dtype, kept), kind, 97, 1)
    assert torch.equal(one_by_one(alone, texts), expected)


@pytest.mark.parametrize(("kind", "near"), [("bfloat16", 0.02), ("int8", 0.06), ("int4", 0.06)])
def test_narrow_weights_give_nearly_the_scores_of_their_rounded_values(config, texts, kind, near):
    """What is left is the rounding of rows and of the cache, which the decoder in torch has in float32."""
    # All experts, so that rounding changes no choice, and one layer, for later ones amplify it.
    model = network(config, NETWORKS["Qwen3"] | {"num_experts_per_tok": 4, "num_hidden_layers": 1})
    found = scores(CpuRunner(model, cache(model, torch.bfloat16), kind, 900, 2), together(texts))
    if kind != "bfloat16":
        pack_weights(model, kind)
    expected = scores(TorchRunner(model, cache(model), Adapters(model, {})), together(texts))
    assert (found - expected).norm() / expected.norm() < near


@torch.no_grad()
def test_experts_in_4_bit_floats_give_the_scores_of_what_they_stand_for(config, texts):
    model = network(config, NETWORKS["gpt-oss"] | {"num_experts_per_tok": 4, "num_hidden_layers": 1})
    random = torch.Generator().manual_seed(0)
    for moe in model.moe_layers():
        for parameter in (moe.experts.gate_up_proj, moe.experts.down_proj):
            rows, inputs = parameter.flatten(0, -2).shape
            runs = torch.randint(256, (rows, -(-inputs // 32), 16), generator=random, dtype=torch.uint8)
            weight = from_mxfp4(runs, torch.full(runs.shape[:-1], 122, dtype=torch.uint8))
            parameter.copy_(weight[:, :inputs].view_as(parameter))
    runner = CpuRunner(model, cache(model, torch.bfloat16), "bfloat16", 900, 2, experts="mxfp4")
    expected = scores(TorchRunner(model, cache(model), Adapters(model, {})), together(texts))
    assert (scores(runner, together(texts)) - expected).norm() / expected.norm() < 0.02


@pytest.mark.parametrize("way", [1, 2], ids=["pairs", "widened"])
@pytest.mark.parametrize("name", ["native", "DeepSeek-V3"])
def test_both_ways_to_multiply_bfloat16_are_right(config, texts, name, way, monkeypatch):
    """The library takes what is faster on this processor; this test takes each in turn."""
    if way == 1 and not pack.load().troth_has_pairs():
        pytest.skip("this processor has no instruction for it")
    monkeypatch.setattr(pack, "load", lambda: SimpleNamespace(troth_pairs_are_faster=lambda: way == 1))
    pack.number_of.cache_clear()
    try:
        assert pack.number_of("bfloat16") == way
        all_experts = {"num_experts_per_tok": 4, "num_expert_groups": 1, "num_hidden_layers": 1}
        model = network(config, (NETWORKS | LATENTS)[name] | all_experts)
        found = scores(CpuRunner(model, cache(model, torch.bfloat16), "bfloat16", 900, 2), together(texts))
    finally:
        pack.number_of.cache_clear()
    expected = scores(TorchRunner(model, cache(model), Adapters(model, {})), together(texts))
    assert (found - expected).norm() / expected.norm() < 0.02


@pytest.mark.parametrize(("bits", "steps"), [(8, 254), (4, 15)])
def test_quantised_weights_are_within_half_a_step(bits, steps):
    weight = torch.randn(48, 96, generator=torch.Generator().manual_seed(1)) * torch.logspace(-4, 1, 48)[:, None]
    weight[5, 32:64] = 0
    kept = dequantise(*quantise(weight, bits), bits)
    span = weight.unflatten(1, (-1, 32)).abs().amax(-1, keepdim=True) * 2
    # With 4 bits one side of the range has a step more than the other. float16 holds scales down to 6e-8.
    bound = span / steps * (0.51 if bits == 8 else 1.02) + 128 * 6e-8
    assert ((kept - weight).unflatten(1, (-1, 32)).abs() <= bound).all()


def test_an_engine_answers_the_same_in_8_bit_on_either_path(config, tokenizer, monkeypatch):
    """Greedy texts of the library and of the decoder with rounded weights begin alike."""
    request = Request(tuple(range(10, 40)), SamplingParams(temperature=0, max_tokens=8, ignore_eos=True))
    texts = []
    for available in (True, False):
        if not available:
            monkeypatch.setattr("troth.serve.engine.computing.why_not", lambda _: "switched off")
        model = network(config, {"num_experts_per_tok": 4})
        engine = Engine(model, tokenizer, ServeTable(cache_tokens=512, weights="int8"))
        assert isinstance(engine.runner, CpuRunner) is available
        texts.append([token.id for output in engine.generate([request])[0] for token in output.tokens])
    assert texts[0][:3] == texts[1][:3]


def test_an_engine_starts_where_the_system_tells_no_affinity(config, tokenizer, monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)  # as on macOS
    engine = Engine(network(config, {}), tokenizer, ServeTable(cache_tokens=512))
    assert isinstance(engine.runner, CpuRunner)
    assert engine.runner.threads == os.cpu_count()


def test_experts_and_embeddings_are_those_of_the_decoder(config, tokenizer, monkeypatch):
    greedy = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True, experts=True)
    prompt = tuple(range(10, 60))
    experts, embeddings = [], []
    for available in (True, False):
        if not available:
            monkeypatch.setattr("troth.serve.engine.computing.why_not", lambda _: "switched off")
        engine = Engine(network(config, {}), tokenizer, ServeTable(cache_tokens=512, max_step_tokens=24))
        found, pooled = engine.generate([Request(prompt, greedy), Request(prompt, pooled=True)])
        experts.append([token.experts for output in found for token in output.tokens])
        embeddings.append(torch.tensor(pooled[-1].embedding))
    assert experts[0] == experts[1]
    assert len({choice for layers in experts[0] for choice in layers}) > 1
    torch.testing.assert_close(*embeddings, atol=1e-4, rtol=1e-4)


def test_an_embedding_does_not_depend_on_company_or_cut(config, tokenizer):
    model, found = network(config, {}), set()
    for changes in ({"max_step_tokens": 512}, {"max_step_tokens": 7}, {"max_step_tokens": 50, "max_batch": 1}):
        engine = Engine(model, tokenizer, ServeTable(cache_tokens=512, **changes))
        pooled = engine.generate(Request(tuple(range(10, 90 + length)), pooled=True) for length in range(3))
        found.add(tuple(outputs[0].embedding for outputs in pooled))
    assert len(found) == 1


def test_a_library_from_other_sources_is_refused(monkeypatch, caplog):
    path = Path(load()._name)
    assert library.opened(path) is not None
    assert not caplog.messages
    assert library.opened(Path(_ctypes.__file__)) is None, "a library that tells no version"
    monkeypatch.setattr(library, "VERSION", library.VERSION + 1)
    assert library.opened(path) is None
    assert [message.partition(",")[0] for message in caplog.messages] == [
        f"{_ctypes.__file__} was built from other sources", f"{path} was built from other sources",
    ]  # fmt: skip


def test_what_the_library_cannot_run_is_left_to_torch(config):
    assert why_not(config) is None
    assert why_not(config.model_copy(update={"head_dim": 24})) == "heads of 24"
    odd = Latent(**(LATENT | {"kv_lora_rank": 40}))
    assert why_not(config.model_copy(update={"latent": odd})) == f"latents of {odd}"


@pytest.mark.parametrize("kept", ["auto", "int8", "fp8"])
def test_an_engine_runs_latents_here_in_every_kind_of_cache(config, tokenizer, kept):
    model = network(config, LATENTS["DeepSeek-V2-Lite"])
    engine = Engine(model, tokenizer, ServeTable(cache_tokens=512, kv_cache_dtype=kept))
    assert isinstance(engine.runner, CpuRunner)
    request = Request(tuple(range(10, 40)), SamplingParams(temperature=0, max_tokens=4, ignore_eos=True))
    assert len(engine.generate([request])[0]) == 4
