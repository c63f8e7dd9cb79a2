"""Decoding steps in buffers that stay where they are, as CUDA graphs need them; the graphs themselves want a GPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.serve.engine.decode_graphs import DecodeGraphs, Inputs, decode
from troth.serve.engine.engine import BLOCK_SIZE, Engine
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.request import Request
from troth.serve.engine.runner import TorchRunner
from troth.serve.engine.sampling_params import SamplingParams
from troth.system.serve import ServeTable

from .conftest import random_network
from .test_kv_cache import KINDS


@pytest.mark.parametrize("changes", list(KINDS.values())[:2], ids=list(KINDS)[:2])
def test_padded_steps_in_standing_buffers_draw_the_same_tokens(
    config: ModelConfig, tokenizer: Any, changes: dict[str, Any]
):
    """Three texts of uneven length, so that the step of four has a row to spare; one ends before the others."""
    pytest.importorskip("triton")
    table = ServeTable(cache_tokens=1024)
    texts = []
    for with_graphs in (False, True):
        engine = Engine(random_network(config, changes, torch.float64), tokenizer, table)
        assert isinstance(engine.runner, TorchRunner)
        if with_graphs:
            engine.runner.graphs = DecodeGraphs(engine.model, engine.cache, 4, 64)
            ran = spied(engine.runner.graphs)
        requests = [
            Request(tuple(range(length, 2 * length)), SamplingParams(temperature=0.8, seed=1, max_tokens=length // 10))
            for length in (36, 50, 20)
        ]
        texts.append([[output.tokens[0].id for output in outputs] for outputs in engine.generate(requests)])
    assert texts[0] == texts[1]
    assert {3, 2} <= set(ran), "the steps were run in the buffers"


def spied(graphs: DecodeGraphs) -> list[int]:
    """How many sequences each step has, as the steps are run."""
    ran: list[int] = []
    run: Callable[..., torch.Tensor] = graphs.run

    def noted(chunks: Any) -> torch.Tensor:
        ran.append(len(chunks))
        return run(chunks)

    graphs.run = noted  # type: ignore[method-assign]
    return ran


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS.keys())
@torch.inference_mode()
def test_a_step_never_waits_for_a_number(config: ModelConfig, changes: dict[str, Any]):
    """On tensors that have a shape but no numbers, and so are on no processor: who asks for a number is refused."""
    with torch.device("meta"):
        model = Decoder(ModelConfig(**config.model_dump() | changes)).bfloat16().eval()
    cache = KVCache(model.config, 64, 64, BLOCK_SIZE, torch.bfloat16, torch.device("meta"))
    inputs = Inputs.room(cache, 8, 64)
    logits_PV = decode(model, cache, inputs)
    assert (logits_PV.shape, logits_PV.dtype) == ((8, config.vocab_size), torch.float32)
    for ask in (torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.nonzero):
        with pytest.raises((RuntimeError, NotImplementedError)):
            ask(inputs.tokens_P[:1])
