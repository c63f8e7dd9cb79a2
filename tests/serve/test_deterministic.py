"""In the deterministic mode the scores of a text are the same, bit by bit, alone and in any company and chunking."""

from collections.abc import Sequence as Items
from typing import Any

import pytest
import torch

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.tokenizer import Tokenizer
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.runner import Runner
from troth.serve.engine.sampling_params import SamplingParams
from troth.serve.engine.scheduler import Chunk
from troth.system.serve import ServeTable

from .conftest import random_network

KINDS: dict[str, dict[str, Any]] = {
    "windows, dense and experts": {},
    "bent scores, sinks and biases": {
        "sliding_window": None, "rope_layers": "all", "qk_norm": "none", "attention_softcap": 2.0, "biases": True,
        "attention_temperature_len": 8, "attention_sinks": True, "router_score": "softmax", "swiglu_limit": 0.5,
    },
    "latents": {
        "sliding_window": None, "rope_layers": "all", "qk_norm": "none", "attention_gate": False, "head_dim": 24,
        "latent": {
            "q_lora_rank": 20, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12,
        },
    },
}  # fmt: skip


class Recording:
    """A runner that also keeps the scores that it gave, by request and position."""

    def __init__(self, runner: Runner):
        self.runner = runner
        self.scores: dict[tuple[str, int], torch.Tensor] = {}

    def run(self, chunks: Items[Chunk], wanted: list[int]) -> torch.Tensor:
        logits_WV = self.runner.run(chunks, wanted)
        rows = iter(logits_WV)
        for chunk in chunks:
            for place in range(chunk.start + chunk.count - chunk.samples, chunk.start + chunk.count):
                self.scores[chunk.sequence.request.id, place] = next(rows).clone()
        return logits_WV


def network(config: ModelConfig, changes: dict[str, Any], dtype: torch.dtype) -> Decoder:
    # Sizes that leave remainders in vector registers.
    odd = {"hidden_size": 56, "moe_intermediate_size": 24, "intermediate_size": 45}
    return random_network(config, odd | changes, dtype)


def prompt(length: int) -> tuple[int, ...]:
    return tuple(torch.randint(391, (length,), generator=torch.Generator().manual_seed(length)).tolist())


def scores(
    model: Decoder, tokenizer: Tokenizer, lengths: tuple[int, ...], **changes: Any
) -> dict[tuple[str, int], torch.Tensor]:
    engine = Engine(model, tokenizer, ServeTable(cache_tokens=4096, **changes))
    recording = Recording(engine.runner)
    engine.runner = recording
    greedy = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
    engine.generate(Request(prompt(length), greedy, id=str(length)) for length in lengths)
    return recording.scores


def differing(found: dict[tuple[str, int], torch.Tensor], other: dict[tuple[str, int], torch.Tensor]) -> int:
    assert found.keys() <= other.keys()
    return sum(not torch.equal(row, other[key]) for key, row in found.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS.keys())
def test_scores_are_bit_equal_alone_in_a_batch_and_in_any_chunks(
    config: ModelConfig, tokenizer: Tokenizer, changes: dict[str, Any], dtype: torch.dtype
):
    lengths = (1, 40, 150)
    alone = {}
    for length in lengths:
        alone |= scores(network(config, changes, dtype), tokenizer, (length,), deterministic=True)
    assert len(alone) == 6 * len(lengths)
    for steps in (7, 512):
        together = scores(
            network(config, changes, dtype), tokenizer, lengths, deterministic=True, max_step_tokens=steps
        )
        assert differing(alone, together) == 0


def test_embeddings_are_bit_equal_too_and_change_no_text_that_shares_their_beginning(
    config: ModelConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("troth.serve.engine.computing.why_not", lambda _: "switched off")
    scored = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True, logprobs=5)
    pooled = [Request(prompt(length), pooled=True, id=str(length)) for length in (40, 150, 61)]

    def engine(**changes: Any) -> Engine:
        table = ServeTable(cache_tokens=4096, deterministic=True, **changes)
        return Engine(network(config, {}, torch.bfloat16), tokenizer, table)

    alone = [engine().generate([request])[0][0].embedding for request in pooled]
    [text] = engine().generate([Request(prompt(150), scored)])
    beside = engine(max_step_tokens=37)
    assert [outputs[0].embedding for outputs in beside.generate(pooled)] == alone
    [after] = beside.generate([Request(prompt(150), scored)])
    assert after[0].cached_tokens == 144
    assert [output.tokens for output in after] == [output.tokens for output in text]


def test_without_the_mode_sums_do_depend_on_the_batch(config: ModelConfig, tokenizer: Tokenizer):
    """Else the mode would be for nothing."""
    model = network(config, {}, torch.float32)
    assert differing(scores(model, tokenizer, (40,)), scores(model, tokenizer, (40, 150, 16))) > 0


def test_the_mode_computes_what_the_plain_network_does(config: ModelConfig, tokenizer: Tokenizer):
    for changes in KINDS.values():
        found = scores(network(config, changes, torch.float64), tokenizer, (150,), deterministic=True)
        model = network(config, changes, torch.float64)
        with torch.inference_mode():
            plain_V = model.logits(model(torch.tensor([prompt(150)]))[0, -1]).float()
        torch.testing.assert_close(found["150", 149], plain_V, atol=1e-4, rtol=0)
