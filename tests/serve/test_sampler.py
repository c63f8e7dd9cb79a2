"""Sampling follows the distribution that was asked for."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from troth.model.config import ModelConfig
from troth.serve.engine.cpu.library import KERNELS
from troth.serve.engine.cpu.runner import CpuRunner
from troth.serve.engine.drawer import Drawer, TorchDrawer
from troth.serve.engine.request import Request
from troth.serve.engine.sampler import sample
from troth.serve.engine.sampling_params import SamplingParams
from troth.serve.engine.sequence import Sequence

from .steps import cache, network

PROBABILITIES = torch.tensor([0.05, 0.4, 0.05, 0.3, 0.2])
DRAWS = 4000


def frequencies(params: SamplingParams) -> list[float]:
    sequence = Sequence(Request((0,), params.model_copy(update={"seed": 0})), 10)
    rows = PROBABILITIES.log().repeat(DRAWS, 1)
    drawn = torch.tensor([token.id for token in sample(rows, [sequence] * DRAWS, TorchDrawer())])
    return (torch.bincount(drawn, minlength=5) / DRAWS).tolist()


def drawer_of(name: str, config: ModelConfig, choose_kernels: Callable[[str], None]) -> Drawer:
    if name == "torch":
        return TorchDrawer()
    choose_kernels(name)
    model = network(config, {})
    return CpuRunner(model, cache(model), "float32", 16, 2)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [0.05, 0.4, 0.05, 0.3, 0.2]),
        ({"temperature": 0}, [0, 1, 0, 0, 0]),
        ({"temperature": 0.5}, [0.0085, 0.5424, 0.0085, 0.3051, 0.1356]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7, 0]),
        ({"top_p": 0.6}, [0, 4 / 7, 0, 3 / 7, 0]),
        ({"top_p": 0.0}, [0, 1, 0, 0, 0]),
        ({"min_p": 0.45}, [0, 4 / 9, 0, 3 / 9, 2 / 9]),
        ({"top_k": 2, "top_p": 0.5}, [0, 1, 0, 0, 0]),  # of what top-k leaves, the first is more than half
        ({"min_p": 0.45, "top_k": 4, "top_p": 0.44}, [0, 1, 0, 0, 0]),
        ({"logit_bias": {1: -100, 3: -100, 4: -100}}, [0.5, 0, 0.5, 0, 0]),
    ],
    ids=str,
)
def test_draws_follow_the_distribution(params: dict, expected: list[float]):
    assert frequencies(SamplingParams(**params)) == pytest.approx(expected, abs=0.035)


def test_every_row_has_its_own_parameters():
    all_params = [SamplingParams(temperature=0), SamplingParams(logit_bias={2: 100.0}), SamplingParams(top_k=1)]
    sequences = [Sequence(Request((0,), params), 10) for params in all_params]
    tokens = sample(PROBABILITIES.log().repeat(3, 1), sequences, TorchDrawer())
    assert [token.id for token in tokens] == [1, 2, 1]


def kept(logits_V: torch.Tensor, params: SamplingParams) -> np.ndarray:
    """What a token's share is, in float64 and with everything sorted."""
    x = logits_V.double().numpy() / params.temperature
    shares = np.exp(x - x.max())
    if params.min_p > 0:
        shares[shares < params.min_p] = 0
    if params.top_k > 0:
        shares[np.argsort(-shares)[params.top_k :]] = 0
    order = np.argsort(-shares)
    before = shares[order].cumsum() - shares[order]
    shares[order[before >= params.top_p * shares.sum()]] = 0
    return shares / shares.sum()


SETTINGS = [
    {"temperature": 1.0}, {"temperature": 1e-9}, {"temperature": 0.01}, {"temperature": 2.0}, {"top_k": 1},
    {"top_k": 20, "top_p": 0.95, "temperature": 0.6}, {"top_p": 0.9}, {"top_p": 0.999, "temperature": 0.3},
    {"min_p": 0.05}, {"min_p": 1.0}, {"min_p": 0.01, "top_k": 300, "top_p": 0.5}, {"top_p": 1e-6}, {"top_k": 10**12},
]  # fmt: skip


@pytest.mark.parametrize("vocabulary", [1, 15, 16, 1000, 5003])
@pytest.mark.parametrize("name", ["torch", *KERNELS])
def test_tokens_are_where_their_uniform_number_says(name: str, vocabulary: int, config, choose_kernels):
    drawer = drawer_of(name, config, choose_kernels)
    generator = torch.Generator().manual_seed(vocabulary)
    rows = [SamplingParams(**settings) for settings in SETTINGS] * 20
    wide_SV = torch.randn(len(rows), vocabulary + 3, generator=generator) * 4
    logits_SV = wide_SV[:, :vocabulary]  # rows of a larger embedding
    logits_SV[:, 1::3] = float("-inf")
    uniform_S = torch.rand(len(rows), generator=generator, dtype=torch.float64).tolist()
    uniform_S[0], uniform_S[1] = 0.0, 1 - 2**-53
    tokens = drawer.draw(logits_SV, rows, uniform_S)
    for logits_V, params, uniform, token in zip(logits_SV, rows, uniform_S, tokens, strict=True):
        shares = kept(logits_V, params)
        end = shares[: token + 1].sum()
        assert shares[token] > 0, (params, token)
        assert end - shares[token] - 1e-5 <= uniform <= end + 1e-5, (params, token)


@pytest.mark.parametrize("name", ["torch", *KERNELS])
def test_the_lowest_temperatures_take_the_likeliest(name: str, config, choose_kernels):
    drawer = drawer_of(name, config, choose_kernels)
    params = [SamplingParams(temperature=warm) for warm in (1e-5, 1e-20, 1e-42, 5e-324)]
    logits_SV = torch.tensor([[3.0, -1e4, 20.0, 19.0, -torch.inf]]).repeat(len(params), 1)
    for penalised in (1, 1e9):
        assert drawer.draw(logits_SV * penalised, params, [0.9] * len(params)) == [2] * len(params)


@pytest.mark.parametrize("name", ["torch", *KERNELS])
def test_scores_that_are_no_numbers_are_not_drawn(name: str, config, choose_kernels):
    drawer = drawer_of(name, config, choose_kernels)
    logits_SV = torch.full((3, 5003), float("nan"))
    logits_SV[1, 4000:4002] = torch.tensor([1.0, 3.0])
    logits_SV[2, 7] = float("inf")
    rows = [SamplingParams(top_k=3, top_p=0.9)] * 3
    nowhere, there, beyond = drawer.draw(logits_SV, rows, [0.5, 0.99, 0.5])
    assert there == 4001
    assert 0 <= nowhere < 5003
    assert 0 <= beyond < 5003


@pytest.mark.parametrize("vocabulary", [1, 21, 1280, 5003])
@pytest.mark.parametrize("name", ["torch", *KERNELS])
def test_the_likeliest_and_the_sum_of_all(name: str, vocabulary: int, config, choose_kernels):
    drawer = drawer_of(name, config, choose_kernels)
    logits_SV = torch.randn(9, vocabulary, generator=torch.Generator().manual_seed(0)) * 4
    logits_SV[:, 2::3] = float("-inf")
    for count in (0, 1, min(20, vocabulary)):
        sums, ids, scores = drawer.likeliest(logits_SV, count)
        assert sums == pytest.approx(logits_SV.double().logsumexp(-1).tolist(), abs=5e-7)
        assert scores == logits_SV.topk(count).values.tolist()
        assert [logits_V[some].tolist() for logits_V, some in zip(logits_SV, ids, strict=True)] == scores
        assert all(len(set(some)) == count for some in ids)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1}, {"top_p": 1.1}, {"max_tokens": 0}, {"logprobs": 21}, {"repetition_penalty": 1e-50},
        {"typo": 1},
    ],
)  # fmt: skip
def test_parameters_out_of_range_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingParams(**wrong)
