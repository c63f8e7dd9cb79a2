"""8 and 4-bit weights where the decoder runs in torch: the memory that they take, and the scores that they give."""

from typing import Any

import pytest
import torch
from torch import nn

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.moe import MoE
from troth.model.tokenizer import Tokenizer
from troth.serve.engine.cpu.quantise import dequantise, quantise
from troth.serve.engine.engine import Engine
from troth.serve.engine.packed_weights import Packed, pack_weights
from troth.serve.engine.request import Request
from troth.serve.engine.runner import TorchRunner
from troth.serve.engine.sampling_params import SamplingParams
from troth.system.serve import ServeTable

from .conftest import random_network
from .test_kv_cache import KINDS, prompt

# Inputs in whole groups of 32, of which odd ones would be filled up.
WHOLE: dict[str, Any] = {"hidden_size": 96, "intermediate_size": 128}


@torch.no_grad()
def rounded(model: Decoder, bits: Any) -> Decoder:
    """The decoder with weights that were packed and widened, all at once."""

    def keep(weight: torch.Tensor) -> None:
        weight_OI = weight.flatten(0, -2)
        padded = torch.nn.functional.pad(weight_OI, (0, -weight_OI.shape[1] % 32))
        kept = dequantise(*quantise(padded, bits), bits)[:, : weight_OI.shape[1]]
        weight.copy_(kept.view_as(weight))

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith("router.gate"):
            keep(module.weight)
        elif isinstance(module, MoE):
            keep(module.experts.gate_up_proj)
            keep(module.experts.down_proj)
    return model


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS.keys())
@torch.inference_mode()
def test_scores_are_those_of_the_rounded_weights(config: ModelConfig, changes: dict[str, Any], bits: int):
    tokens_1T = prompt(50)[None]
    packed, reference = (random_network(config, changes, torch.float64) for _ in range(2))
    plain_T1 = reference.logits(reference(tokens_1T))
    pack_weights(packed, f"int{bits}")
    found, expected = (model.logits(model(tokens_1T)) for model in (packed, rounded(reference, bits)))
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
    assert not torch.allclose(found, plain_T1, atol=1e-3)


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8.5), ("int4", 4.5)])
def test_an_engine_without_the_library_keeps_them_packed(
    config: ModelConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, kind: Any, bits: float
):
    monkeypatch.setattr("troth.serve.engine.computing.why_not", lambda _: "switched off")
    model = random_network(config, WHOLE, torch.bfloat16)
    kept = sum(p.numel() for name, p in model.named_parameters() if p.dim() > 1 and "router" not in name)
    kept -= model.embed_tokens.weight.numel()
    others = sum(t.nbytes for t in (*model.parameters(), *model.buffers())) - 2 * kept
    engine = Engine(model, tokenizer, ServeTable(cache_tokens=512, weights=kind))
    assert isinstance(engine.runner, TorchRunner)
    assert engine.weights == (kind, kept * bits / 8 + others)
    request = Request(tuple(range(10, 40)), SamplingParams(temperature=0, max_tokens=8, ignore_eos=True))
    assert len(engine.generate([request])[0]) == 8


def test_a_matrix_is_widened_in_tiles(monkeypatch: pytest.MonkeyPatch):
    weight_OI = torch.randn(70, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x_TI = torch.randn(5, 64, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    whole = Packed(weight_OI, 4)
    monkeypatch.setattr("troth.serve.engine.packed_weights._TILE", 640)
    tiled = Packed(weight_OI, 4)
    torch.testing.assert_close(tiled.numbers, whole.numbers)
    torch.testing.assert_close(tiled.product(x_TI, 3, 69), x_TI @ whole.rows(slice(3, 69)).T)
