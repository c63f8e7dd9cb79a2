"""Checked guesses change no text, greedy or drawn, with any parameters; they only come sooner."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from troth.model.adapters import save_adapters
from troth.model.attention import packed_attention
from troth.model.config import ModelConfig
from troth.model.families.weights import load_weights
from troth.model.initialise import initialise
from troth.model.lora import adapt
from troth.model.mtp import MTP, load_mtp, save_mtp
from troth.model.rope import Positions
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Output, Request
from troth.serve.engine.sampling_params import SamplingParams
from troth.system.serve import ServeTable

PROMPTS = [(5, 6, 7, 8, 9, 10) * 7, tuple(range(3, 60)), (4,), (9, 8, 7) * 40]
PARAMS = {
    "greedy": SamplingParams(temperature=0, max_tokens=40, ignore_eos=True),
    "drawn": SamplingParams(temperature=0.7, top_p=0.9, seed=4, max_tokens=40, ignore_eos=True),
    "with penalties": SamplingParams(
        temperature=0.5, seed=5, frequency_penalty=0.7, presence_penalty=0.3, max_tokens=40, ignore_eos=True
    ),
    "with a stop": SamplingParams(temperature=0, max_tokens=40, stop=("a",)),
}


@pytest.fixture(scope="module")
def with_mtp(folder: Path, config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a random module to predict two tokens ahead."""
    copy = tmp_path_factory.mktemp("drafts") / "model"
    shutil.copytree(folder, copy)
    mtp = initialise(MTP(config, 1), 3)
    for moe in mtp.moe_layers():  # routers that begin at zero leave the choice among equals open
        torch.nn.init.normal_(moe.router.gate.weight, std=0.2, generator=torch.Generator().manual_seed(4))
    save_mtp(mtp.state_dict().items(), copy, torch.float32)
    return copy


def serve(folder: Path, params: SamplingParams, **changes: object) -> tuple[list[list[Output]], Engine]:
    engine = Engine.from_folder(folder, ServeTable(**({"cache_tokens": 4096} | changes)))
    outputs = engine.generate(Request(prompt, params) for prompt in PROMPTS)
    assert engine.stats.free_blocks == engine.stats.blocks
    return outputs, engine


def texts(outputs: list[list[Output]]) -> Iterator[tuple[list[int], str, str | None]]:
    for found in outputs:
        ids = [token.id for output in found for token in output.tokens]
        yield ids, "".join(output.text for output in found), found[-1].finish_reason


@pytest.mark.parametrize("params", PARAMS.values(), ids=PARAMS)
@pytest.mark.parametrize("speculate", ["ngram", "mtp", "mtp in torch"])
def test_texts_are_those_without_drafts(
    with_mtp: Path, speculate: str, params: SamplingParams, monkeypatch: pytest.MonkeyPatch
):
    """In a cache so small that requests give way to each other, and with prompts in small chunks."""
    plain, _ = serve(with_mtp, params)
    if speculate == "mtp in torch":
        monkeypatch.setattr("troth.serve.engine.computing.why_not", lambda _: "switched off")
    drafted, engine = serve(with_mtp, params, speculate=speculate.split()[0], cache_tokens=208, max_step_tokens=9)
    assert list(texts(drafted)) == list(texts(plain))
    assert 0 <= engine.stats.accepted <= engine.stats.drafted


def test_drafts_and_the_deterministic_mode_go_together(with_mtp: Path):
    plain, _ = serve(with_mtp, PARAMS["greedy"], deterministic=True)
    drafted, engine = serve(with_mtp, PARAMS["greedy"], deterministic=True, speculate="mtp", max_step_tokens=30)
    assert list(texts(drafted)) == list(texts(plain))
    assert engine.stats.drafted > 0


def test_what_was_written_before_is_guessed(folder: Path):
    params = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True, frequency_penalty=-100.0)
    _, plain = serve(folder, params)
    _, engine = serve(folder, params, speculate="ngram", draft_tokens=6)
    assert engine.stats.accepted > 60, "a text that repeats one token"
    assert plain.stats.drafted == 0


def test_the_module_guesses_what_it_would_over_the_whole_text(with_mtp: Path):
    engine = Engine.from_folder(with_mtp, ServeTable(cache_tokens=4096, speculate="mtp", max_step_tokens=50))
    plain, mtp = load_weights(with_mtp), load_mtp(with_mtp)
    module = next(iter(mtp.layers.values()))
    for prompt in PROMPTS:
        engine.add(Request(prompt, PARAMS["greedy"]))
    compared = 0
    for _ in range(25):
        engine.step()
        for sequence in engine.scheduler.running:
            if not sequence.drafts:
                continue
            tokens_1T = torch.tensor([sequence.tokens])
            positions = Positions.of(torch.arange(tokens_1T.shape[1] - 1)[None], plain.config)
            attend = packed_attention(plain.config, torch.zeros_like(tokens_1T[:, 1:]))
            with torch.inference_mode():
                embedded_1TD = plain.embed_tokens(tokens_1T[:, 1:])
                h_1TD = module(plain(tokens_1T[:, :-1]), embedded_1TD, positions, attend)
                scores_V = plain.logits(h_1TD[0, -1])[: engine.tokenizer.vocab_size]
            assert sequence.drafts == [int(scores_V.argmax())]
            compared += 1
    assert compared > 50


@pytest.mark.parametrize("deterministic", [False, True])
def test_drafts_and_an_adapter_of_the_head_go_together(
    with_mtp: Path, tmp_path: Path, deterministic: bool, monkeypatch: pytest.MonkeyPatch
):
    """In torch, where what an adapter adds has to be of the rows that the head is asked about."""
    monkeypatch.setattr("troth.serve.engine.computing.why_not", lambda _: "switched off")
    model = load_weights(with_mtp, torch.float32, "cpu")
    adapt(model, ["lm_head"], 2, alpha=2)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(1))
    save_adapters(model, tmp_path / "head", "tiny")
    found = []
    for speculate in ("none", "mtp"):
        table = ServeTable(cache_tokens=4096, speculate=speculate, deterministic=deterministic, max_step_tokens=50)
        engine = Engine.from_folder(with_mtp, table, adapters={"head": tmp_path / "head"})
        requests = [Request(p, PARAMS["greedy"], adapter=name) for p in PROMPTS for name in ("head", None)]
        found.append(list(texts(engine.generate(requests))))
    assert found[0] == found[1]
    assert engine.stats.drafted > 0


def test_mtp_needs_its_module(folder: Path):
    with pytest.raises(ValueError, match=r"no mtp/ folder is beside the weights; 'ngram' needs none"):
        serve(folder, PARAMS["greedy"], speculate="mtp")
