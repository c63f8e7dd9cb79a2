"""Greedy texts of the engine differ from the plain network's only where two tokens score nearly alike."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from troth.model.families.weights import load_weights
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import SamplingParams
from troth.system.serve import ServeTable

BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 0.25}
"""How far apart, at most, the plain network scores its own best token and the one that the engine took, as a share of
what lies between its best and its worst token. In bfloat16 rounding may choose between two experts."""


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_thousands_of_greedy_tokens_are_the_plain_networks_within_the_bound(
    folder: Path, dtype: torch.dtype, record_property: Callable[[str, object], None]
):
    engine = Engine.from_folder(folder, ServeTable(cache_tokens=8192, max_step_tokens=24), dtype=dtype)
    plain = load_weights(folder, dtype)
    random = torch.Generator().manual_seed(3)
    prompts = [tuple(torch.randint(391, (5 + 13 * n,), generator=random).tolist()) for n in range(12)]
    greedy = SamplingParams(temperature=0, max_tokens=200, ignore_eos=True)
    outputs = engine.generate(Request(prompt, greedy) for prompt in prompts)
    compared, other, furthest = 0, 0, 0.0
    for prompt, found in zip(prompts, outputs, strict=True):
        written = [token.id for output in found for token in output.tokens]
        with torch.inference_mode():
            h_TD = plain(torch.tensor([[*prompt, *written[:-1]]]))[0, len(prompt) - 1 :]
            logits_TV = plain.logits(h_TD)[:, : engine.tokenizer.vocab_size].float()
        taken_T = logits_TV.gather(1, torch.tensor(written)[:, None])[:, 0]
        worst_T, best_T = logits_TV.aminmax(dim=-1)
        gaps_T = (best_T - taken_T) / (best_T - worst_T)
        compared += len(written)
        other += int((gaps_T > 0).sum())
        furthest = max(furthest, gaps_T.max().item())
    record_property("differing", f"{other} of {compared}, furthest {furthest}")
    assert compared == 2400
    assert furthest < BOUNDS[dtype]
