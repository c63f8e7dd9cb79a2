"""How requests are sampled that leave it open: as the model's folder says, which vLLM heeds too."""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.drawer import TorchDrawer
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.sampler import sample
from troth.serve.engine.sampling_params import SamplingParams, default_sampling
from troth.serve.engine.sequence import Sequence

QWEN = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [1, 2], "pad_token_id": 1}


@pytest.fixture
def told(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """The small model with a generation_config.json."""

    def tell(**settings: Any) -> Path:
        path = tmp_path / "told"
        shutil.copytree(folder, path, dirs_exist_ok=True)
        (path / "generation_config.json").write_text(json.dumps(settings))
        return path

    return tell


def test_what_a_folder_says(told: Callable[..., Path], folder: Path):
    assert default_sampling(told(**QWEN)) == {"temperature": 0.6, "top_p": 0.95, "top_k": 20}
    assert default_sampling(told(top_p=None, transformers_version="5.0")) == {}
    bare = told()
    (bare / "generation_config.json").unlink()
    assert default_sampling(bare) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"top_p": 1.5}', r"top_p=1\.5: .*less than or equal to 1"), ('{"max_new_tokens": 0}', "max_new_tokens=0"),
        ('{"max_new_tokens": "many"}', "max_new_tokens='many'"), ("[]", "not readable"),
    ],
)  # fmt: skip
def test_what_it_cannot_mean_is_named(tmp_path: Path, text: str, message: str):
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        default_sampling(tmp_path)
    assert str(tmp_path / "generation_config.json") in str(caught.value)


ROUTES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "A bird", "max_tokens": 8},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "A bird"}], "max_tokens": 8},
    "/v1/messages": {"messages": [{"role": "user", "content": "A bird"}], "max_tokens": 8},
    "/v1/responses": {"input": "A bird", "max_output_tokens": 8},
}


def answer(url: str, route: str, **more: Any) -> Any:
    found = httpx.post(f"{url}{route}", json={"model": "told"} | ROUTES[route] | more).json()
    for key in ("choices", "content", "output"):
        if key in found:
            part = found[key][0]
            return part.get("text") or part.get("message", {}).get("content") or part.get("content")
    raise AssertionError(found)


def said(content: Any) -> str:
    if content is None:  # of a draw that ended at once
        return ""
    return content if isinstance(content, str) else content[0]["text"]


@pytest.mark.parametrize("route", ROUTES)
def test_requests_take_the_defaults_and_may_say_otherwise(
    told: Callable[..., Path], run_server: Callable[..., AbstractContextManager[str]], route: str
):
    """With a top_k of one every draw is the most likely token, whatever the temperature."""
    path = told(temperature=1.5, top_k=1)
    with run_server(path) as url:
        greedy = said(answer(url, route, temperature=0))
        assert {said(answer(url, route)) for _ in range(3)} == {greedy}
        if route in ("/v1/completions", "/v1/chat/completions"):
            assert len({said(answer(url, route, top_k=-1)) for _ in range(4)}) > 1
    with run_server(path, generation_config="none") as url:
        assert len({said(answer(url, route)) for _ in range(4)}) > 1


def test_chats_without_a_limit_have_the_folders(
    told: Callable[..., Path], run_server: Callable[..., AbstractContextManager[str]]
):
    """As in vLLM, where it is not the most that a request may ask for. Completions have OpenAI's 16."""
    with run_server(told(max_new_tokens=5)) as url:
        greedy: dict[str, Any] = {"model": "told", "temperature": 0}
        asked = greedy | {"messages": [{"role": "user", "content": "A bird"}], "ignore_eos": True}
        for more, count in (({}, 5), ({"max_tokens": 9}, 9), ({"max_tokens": None}, 5)):
            found = httpx.post(f"{url}/v1/chat/completions", json=asked | more).json()
            assert found["usage"]["completion_tokens"] == count
        texts = "A bird", "in the hand", "is worth two", "in the bush", "All that glitters", "is not gold"
        several = [httpx.post(f"{url}/v1/responses", json=greedy | {"input": text}).json() for text in texts]
        assert max(found["usage"]["output_tokens"] for found in several) == 5
        found = httpx.post(f"{url}/v1/completions", json=greedy | {"prompt": "A bird", "ignore_eos": True}).json()
        assert found["usage"]["completion_tokens"] == 16


def test_responses_tell_how_they_were_sampled(
    told: Callable[..., Path], run_server: Callable[..., AbstractContextManager[str]]
):
    with run_server(told(temperature=0.6, top_p=0.95)) as url:
        body = {"model": "told", "input": "A bird", "max_output_tokens": 4}
        left, asked = (httpx.post(f"{url}/v1/responses", json=body | more).json() for more in ({}, {"temperature": 1}))
    assert (left["temperature"], left["top_p"]) == (0.6, 0.95)
    assert (asked["temperature"], asked["top_p"]) == (1, 0.95)


def test_a_repetition_penalty_divides_what_speaks_for_tokens_that_were_there():
    """Of the prompt and of the answer, once; what speaks against them is multiplied."""
    sequence = Sequence(Request((3, 4, 4), SamplingParams(temperature=0, repetition_penalty=2.0, logprobs=5)), 10)
    for token in (4, 5, 5):
        sequence.penalties.append(token)
    logits = torch.tensor([[0.5, -1.0, 0.9, 1.5, -2.0, 1.9, 0.94]])
    expected = torch.tensor([[0.5, -1.0, 0.9, 0.75, -4.0, 0.95, 0.94]])
    (token,) = sample(logits, [sequence], TorchDrawer())
    torch.testing.assert_close(logits, expected)
    assert token.id == 5
    assert token.top[0][0] == 5, "log-probabilities are the model's own"


def test_a_repetition_penalty_through_the_engine(make_engine: Callable[..., Engine], tokenizer: Tokenizer):
    """Greedy texts with a strong one never say the same token twice."""
    prompt = tuple(tokenizer.encode("A bird in the hand"))
    params = SamplingParams(temperature=0, repetition_penalty=1e6, max_tokens=24, ignore_eos=True)
    (outputs,) = make_engine().generate([Request(prompt, params)])
    ids = [token.id for output in outputs for token in output.tokens]
    assert len(set(ids)) == len(ids) == 24
    assert not set(ids) & set(prompt)
