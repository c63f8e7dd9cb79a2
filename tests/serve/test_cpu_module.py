"""A module of multi-token prediction in the C++ library scores what it scores in torch."""

import pytest
import torch

from troth.model.config import ModelConfig
from troth.model.initialise import initialise
from troth.model.mtp import MTP, MTPModule
from troth.serve.engine.adapters import Adapters
from troth.serve.engine.cpu.runner import CpuModule, CpuRunner
from troth.serve.engine.drafts import TorchModule
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.runner import TorchRunner

from .steps import BLOCKS, LATENTS, LENGTHS, NETWORKS, Text, network, together

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.mark.parametrize("name", ["native", "Grok", "DeepSeek-V3"])
@torch.inference_mode()
def test_scores_are_those_of_the_module(config: ModelConfig, texts: list[Text], name: str):
    model = network(config, (NETWORKS | LATENTS)[name] | {"logit_softcap": None, "logit_scale": 1.0})
    mtp = initialise(MTP(model.config, 1), 3).eval()
    for moe in mtp.moe_layers():  # routers begin at zero, and which of equal experts are first is nobody's promise
        moe.router.gate.weight.normal_(generator=torch.Generator().manual_seed(3))
    module = mtp.layers[str(model.config.num_hidden_layers)]
    assert isinstance(module, MTPModule)
    caches = [KVCache(model.config, BLOCKS, BLOCKS, 16, torch.float32, torch.device("cpu"), extra=1) for _ in range(2)]
    in_torch = TorchRunner(model, caches[0], Adapters(model, {}), keeps_states=True)
    here = CpuRunner(model, caches[1], "float32", 900, 2, keeps_states=True)
    modules = TorchModule(model, module, caches[0], Adapters(model, {})), CpuModule(here, module)
    for chunks in list(together(texts))[:-1]:  # behind the last one's tokens there are none to tell
        last = (torch.tensor([chunk.count for chunk in chunks]).cumsum(0) - 1).tolist()
        told = [token for c in chunks for token in c.sequence.tokens[c.start + 1 : c.start + c.count + 1]]
        scores = [runner.run(chunks, last) for runner in (in_torch, here)]
        torch.testing.assert_close(*scores, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(in_torch.states_TD, here.states_TD, atol=1e-4, rtol=1e-4)
        guesses = [module.scores(here.states_TD, chunks, told, last) for module in modules]
        torch.testing.assert_close(*guesses, atol=1e-4, rtol=1e-4)
    assert here.states_TD.shape == (len(LENGTHS), model.config.hidden_size)
