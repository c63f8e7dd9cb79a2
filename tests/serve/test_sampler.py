"""Sampling follows the distribution that was asked for."""

import pytest
import torch

from troth.serve.engine.request import Request
from troth.serve.engine.sampler import sample
from troth.serve.engine.sampling_params import SamplingParams
from troth.serve.engine.sequence import Sequence

PROBABILITIES = torch.tensor([0.05, 0.4, 0.05, 0.3, 0.2])
DRAWS = 4000


def frequencies(params: SamplingParams) -> list[float]:
    sequence = Sequence(Request((0,), params.model_copy(update={"seed": 0})), 10)
    rows = PROBABILITIES.log().repeat(DRAWS, 1)
    drawn = torch.tensor([token.id for token in sample(rows, [sequence] * DRAWS)])
    return (torch.bincount(drawn, minlength=5) / DRAWS).tolist()


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
        ({"logit_bias": {1: -100, 3: -100, 4: -100}}, [0.5, 0, 0.5, 0, 0]),
    ],
    ids=str,
)
def test_draws_follow_the_distribution(params: dict, expected: list[float]):
    assert frequencies(SamplingParams(**params)) == pytest.approx(expected, abs=0.035)


def test_every_row_has_its_own_parameters():
    all_params = [SamplingParams(temperature=0), SamplingParams(logit_bias={2: 100.0}), SamplingParams(top_k=1)]
    sequences = [Sequence(Request((0,), params), 10) for params in all_params]
    tokens = sample(PROBABILITIES.log().repeat(3, 1), sequences)
    assert [token.id for token in tokens] == [1, 2, 1]


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"top_p": 1.1}, {"max_tokens": 0}, {"logprobs": 21}, {"typo": 1}]
)
def test_parameters_out_of_range_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingParams(**wrong)
