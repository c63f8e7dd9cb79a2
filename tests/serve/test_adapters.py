"""Requests for different adapters, and for none, share steps, and each gets what its adapter alone gives."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from troth.model.adapters import load_adapters, save_adapters
from troth.model.decoder import Decoder
from troth.model.families.weights import load_weights
from troth.model.lora import adapt
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Output, Request
from troth.serve.engine.sampling_params import SamplingParams
from troth.system.serve import ServeTable
from troth.train.lora import adapters, lora_names

from .test_packed_weights import rounded

GREEDY = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)
PROMPT = tuple(range(20, 70))


@pytest.fixture(scope="module")
def folders(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random adapters of different parts and ranks."""
    found = {}
    for seed, (name, patterns, rank) in enumerate(
        [("tall", None, 6), ("small", ["q_proj", "v_proj"], 2), ("expert", ["experts"], 3)]
    ):
        model = load_weights(folder, torch.float32, "cpu")
        adapt(model, lora_names(model.config, patterns), rank, alpha=2 * rank)
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for _, parameter in adapters(model):
                parameter.normal_(0, 0.2, generator=random)
        found[name] = tmp_path_factory.mktemp("adapters") / name
        save_adapters(model, found[name], str(folder))
    return found


@torch.inference_mode()
def plain_greedy(model: Decoder, count: int) -> list[int]:
    tokens = list(PROMPT)
    for _ in range(count):
        tokens.append(int(model.logits(model(torch.tensor([tokens]))[0, -1])[:391].argmax()))
    return tokens[len(PROMPT) :]


def ids(outputs: list[Output]) -> list[int]:
    return [token.id for output in outputs for token in output.tokens]


@pytest.mark.parametrize(
    "changes",
    [{}, {"max_step_tokens": 21}, {"deterministic": True}, {"speculate": "ngram"}, {"weights": "int8"}],
    ids=["together", "chunks", "deterministic", "with drafts", "on 8-bit weights"],
)
def test_each_request_gets_what_its_adapter_alone_gives(
    folder: Path, folders: dict[str, Path], changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
):
    """In torch; `test_cpu_adapters.py` compares the compiled library with it."""
    monkeypatch.setattr("troth.serve.engine.computing.why_not", lambda _: "switched off")
    expected = {}
    for name in (None, *folders):
        model = load_weights(folder, torch.float32, "cpu")
        if "weights" in changes:
            rounded(model, 8)
        if name is not None:
            load_adapters(model, folders[name])
        expected[name] = plain_greedy(model, 16)
    assert len({tuple(tokens) for tokens in expected.values()}) == 4
    engine = Engine.from_folder(folder, ServeTable(**({"cache_tokens": 4096} | changes)), None, torch.float32, folders)
    names = [*expected] * 2
    outputs = engine.generate(Request(PROMPT, GREEDY, adapter=name) for name in names)
    for name, found in zip(names, outputs, strict=True):
        assert ids(found) == expected[name]
    # Only its own prefix is of use to a request: keys and values depend on the adapter.
    assert [found[-1].cached_tokens for found in outputs] == [0, 0, 0, 0, 48, 48, 48, 48]


def test_an_unknown_adapter_is_refused_with_those_there_are(folder: Path, folders: dict[str, Path]):
    engine = Engine.from_folder(folder, ServeTable(cache_tokens=4096), adapters=folders)
    with pytest.raises(ValueError, match="adapter other is unknown: there are tall, small, expert"):
        engine.add(Request(PROMPT, adapter="other"))


def test_the_api_chooses_the_adapter_by_the_models_name(
    folder: Path, folders: dict[str, Path], run_server: Callable[..., contextlib.AbstractContextManager[str]]
):
    import openai

    engine = Engine.from_folder(folder, ServeTable(cache_tokens=4096), adapters=folders)
    with run_server(adapters=folders) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30)
        models = {model.id: model.model_extra["parent"] for model in client.models.list().data}
        assert models == {folder.name: None} | dict.fromkeys(folders, folder.name)
        for name in folders:
            [wanted] = engine.generate([Request(PROMPT, GREEDY, adapter=name)])
            answer = client.completions.create(
                model=name, prompt=list(PROMPT), temperature=0, max_tokens=16, extra_body={"ignore_eos": True}
            )
            assert answer.model == name
            assert answer.choices[0].text == "".join(output.text for output in wanted)
        with pytest.raises(openai.NotFoundError, match=f"this server has '{folder.name}', 'tall'"):
            client.completions.create(model="other", prompt="x")
