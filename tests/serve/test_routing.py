"""Experts that the engine tells of are those of the plain forward pass, whatever else is in the batch."""

from collections.abc import Callable

import pytest
import torch

from troth.model.decoder import Decoder
from troth.model.tokenizer import Tokenizer
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.routing import first_choices
from troth.serve.engine.sampling_params import SamplingParams


@pytest.mark.parametrize("deterministic", [False, True])
def test_first_choices_are_those_of_the_plain_forward(
    make_engine: Callable[..., Engine], plain: Decoder, tokenizer: Tokenizer, deterministic: bool,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    if deterministic:
        monkeypatch.setattr("troth.serve.engine.computing.why_not", lambda _: "switched off")
    engine = make_engine(max_step_tokens=40, deterministic=deterministic)
    prompts = [tuple(tokenizer.encode(text)) for text in ("All that glitters is not gold, and a rolling", "A bird")]
    asked = [
        Request(prompt, SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, experts=experts))
        for prompt, experts in ((prompts[0], True), (prompts[1], True), (prompts[1], False))
    ]
    *told, silent = [[token for output in outputs for token in output.tokens] for outputs in engine.generate(asked)]
    assert [token.id for token in silent] == [token.id for token in told[1]]
    assert all(token.experts == () for token in silent)
    layers = engine.model.moe_layers()
    assert all(moe.observe is None for moe in layers)
    for prompt, tokens in zip(prompts, told, strict=True):
        text = [*prompt, *(token.id for token in tokens[:-1])]
        with torch.inference_mode(), first_choices(plain, list(range(len(text)))) as chosen:
            plain(torch.tensor([text]))
        first_NL = torch.stack(chosen, dim=1)[len(prompt) - 1 :]
        assert [token.experts for token in tokens] == [tuple(layers) for layers in first_NL.tolist()]
