"""The engine gives what the plain model gives, however requests are batched, chunked, shared or preempted."""

import math
from collections.abc import Callable

import pytest
import torch

from troth.model.decoder import Decoder
from troth.model.tokenizer import Tokenizer
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Output, Request
from troth.serve.engine.sampling_params import SamplingParams

MakeEngine = Callable[..., Engine]
GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
KNOWN = 400
"""Tokens of the tokenizer."""
LENGTHS = (1, 3, 15, 16, 17, 40, 64, 90, 33, 120)


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(
        torch.randint(0, 391, (length,), generator=torch.Generator().manual_seed(1000 * seed + length)).tolist()
    )


def ids(outputs: list[Output]) -> list[int]:
    return [token.id for output in outputs for token in output.tokens]


@torch.inference_mode()
def plain_greedy(plain: Decoder, start: tuple[int, ...], count: int) -> list[int]:
    """What the network itself writes; the tokenizer knows fewer tokens than it has."""
    tokens = list(start)
    for _ in range(count):
        logits = plain.logits(plain(torch.tensor([tokens]))[0, -1])[:KNOWN]
        assert logits.isfinite().all()
        tokens.append(int(logits.argmax()))
    return tokens[len(start) :]


@pytest.fixture(scope="module")
def expected(plain: Decoder) -> dict[int, list[int]]:
    found = {length: plain_greedy(plain, prompt(length), 24) for length in LENGTHS}
    assert len({tuple(tokens) for tokens in found.values()}) == len(LENGTHS), "the model must tell prompts apart"
    return found


@pytest.mark.parametrize(
    ("changes", "preempts"),
    [
        ({}, False),
        ({"max_step_tokens": 7}, False),
        ({"max_batch": 3, "max_step_tokens": 50}, False),
        ({"cache_tokens": 176, "max_step_tokens": 50}, True),
    ],
    ids=["one step", "chunked prefill", "small batch", "preempted"],
)
def test_greedy_equals_the_plain_model(make_engine: MakeEngine, expected, changes: dict[str, int], preempts: bool):
    engine = make_engine(**changes)
    outputs = engine.generate(Request(prompt(length), GREEDY) for length in LENGTHS)
    assert {length: ids(found) for length, found in zip(LENGTHS, outputs, strict=True)} == expected
    assert (engine.scheduler.preemptions > 0) == preempts
    assert engine.stats.free_blocks == engine.stats.blocks


def test_a_known_beginning_is_not_computed_again(make_engine: MakeEngine, plain: Decoder):
    engine = make_engine()
    first, second = prompt(100), prompt(100)[:70] + prompt(30, seed=1)
    engine.generate([Request(first, GREEDY)])
    [outputs] = engine.generate([Request(second, GREEDY)])
    assert outputs[-1].cached_tokens == 64
    assert ids(outputs) == plain_greedy(plain, second, 24)
    # The last token is computed even where all of a prompt is known.
    whole = prompt(64)
    known = [engine.generate([Request(whole, GREEDY)])[0] for _ in range(2)]
    assert [found[-1].cached_tokens for found in known] == [0, 48]
    assert ids(known[0]) == ids(known[1])


def test_requests_added_together_compute_their_common_prompt_once(make_engine: MakeEngine):
    engine = make_engine(max_step_tokens=512)
    outputs = engine.generate(Request(prompt(120), GREEDY) for _ in range(4))
    assert [found[-1].cached_tokens for found in outputs] == [0, 112, 112, 112]
    assert len({tuple(ids(found)) for found in outputs}) == 1


def test_requests_may_come_while_others_run(make_engine: MakeEngine, expected):
    engine = make_engine(max_step_tokens=32)
    engine.add(Request(prompt(64), GREEDY, id="first"))
    found: dict[str, list[int]] = {"first": [], "second": []}
    for step in range(100):
        if step == 9:
            engine.add(Request(prompt(90), GREEDY, id="second"))
        for output in engine.step():
            found[output.request_id] += [token.id for token in output.tokens]
    assert found == {"first": expected[64], "second": expected[90]}
    assert not engine.has_work
    assert engine.step() == []


def test_cancelling_frees_blocks_at_once(make_engine: MakeEngine):
    engine = make_engine(max_batch=1)
    for name in ("running", "waiting"):
        engine.add(Request(prompt(100), GREEDY, id=name))
    engine.step()
    assert engine.stats.free_blocks == engine.stats.blocks - 7
    assert engine.stats.waiting == 1
    assert engine.cancel("running")
    assert engine.cancel("waiting")
    assert not engine.cancel("running")
    assert engine.stats.free_blocks == engine.stats.blocks
    assert not engine.has_work


def test_a_prompt_that_can_never_fit_is_refused_with_its_counts(make_engine: MakeEngine):
    with pytest.raises(ValueError, match=r"prompt has 96 tokens, but at most 95 fit.*4096 positions.*cache 96"):
        make_engine(cache_tokens=100).add(Request(prompt(96)))
    with pytest.raises(ValueError, match="5000 tokens, but at most 4095"):
        make_engine().add(Request(prompt(5000)))
    with pytest.raises(ValueError, match="empty"):
        make_engine().add(Request(()))
    with pytest.raises(ValueError, match="token 400 is unknown: ids go from 0 to 399"):
        make_engine().add(Request((1, 400)))
    with pytest.raises(ValueError, match=r"cache_tokens=15"):
        make_engine(cache_tokens=15)


def test_the_text_ends_where_the_context_does(make_engine: MakeEngine, plain: Decoder):
    engine = make_engine(cache_tokens=64)
    [outputs] = engine.generate([Request(prompt(50), SamplingParams(temperature=0, ignore_eos=True))])
    assert outputs[-1].finish_reason == "length"
    assert outputs[-1].output_tokens == 14
    assert ids(outputs) == plain_greedy(plain, prompt(50), 14)


def test_text_is_that_of_the_tokens_and_ends_at_a_stop_string(make_engine: MakeEngine, tokenizer: Tokenizer):
    engine = make_engine()
    [outputs] = engine.generate([Request(prompt(40), GREEDY)])
    plain = [token for token in ids(outputs) if token < len(tokenizer.ranks)]
    text = "".join(output.text for output in outputs)
    assert text
    assert tokenizer.decode(plain).startswith(text)
    middle = len(text) // 2
    stop = text[middle : middle + 3]
    params = GREEDY.model_copy(update={"stop": ("never there", stop)})
    [stopped] = engine.generate([Request(prompt(40), params)])
    assert "".join(output.text for output in stopped) == text[: text.find(stop)]
    assert stopped[-1].finish_reason == "stop"
    assert stopped[-1].output_tokens < 24


def test_the_end_token_ends_the_text_unless_ignored(make_engine: MakeEngine, tokenizer: Tokenizer):
    engine = make_engine()
    bias = {tokenizer.end_of_text: 1000.0}
    params = SamplingParams(max_tokens=5, logit_bias=bias, seed=1)
    [ended] = engine.generate([Request(prompt(5), params)])
    assert (ended[-1].finish_reason, ended[-1].output_tokens, ended[-1].text) == ("stop", 1, "")
    [ignored] = engine.generate([Request(prompt(5), params.model_copy(update={"ignore_eos": True}))])
    assert (ignored[-1].finish_reason, ignored[-1].output_tokens) == ("length", 5)


def test_a_seed_gives_the_same_tokens_in_any_company(make_engine: MakeEngine):
    params = SamplingParams(temperature=1.0, top_p=0.9, seed=11, max_tokens=20, ignore_eos=True)
    [alone] = make_engine().generate([Request(prompt(40), params)])
    company = [Request(prompt(length), SamplingParams(max_tokens=30, ignore_eos=True)) for length in (5, 77, 30)]
    among = make_engine(max_step_tokens=16).generate([*company, Request(prompt(40), params)])[-1]
    assert ids(alone) == ids(among)
    [other] = make_engine().generate([Request(prompt(40), params.model_copy(update={"seed": 12}))])
    assert ids(alone) != ids(other)


def test_logprobs_are_those_of_the_plain_model(make_engine: MakeEngine, plain: Decoder):
    engine = make_engine()
    params = SamplingParams(temperature=0.5, seed=3, max_tokens=6, logprobs=4, ignore_eos=True, presence_penalty=2.0)
    [outputs] = engine.generate([Request(prompt(30), params)])
    tokens = list(prompt(30))
    for token in (token for output in outputs for token in output.tokens):
        with torch.inference_mode():
            logits = plain.logits(plain(torch.tensor([tokens]))[0, -1])[:KNOWN]
        logprobs = logits.log_softmax(-1)
        assert token.logprob == pytest.approx(logprobs[token.id].item(), abs=1e-4)
        values, likeliest = logprobs.topk(4)
        assert [other for other, _ in token.top] == likeliest.tolist()
        assert [value for _, value in token.top] == pytest.approx(values.tolist(), abs=1e-4)
        assert math.isfinite(token.logprob)
        tokens.append(token.id)


def test_penalties_keep_tokens_from_coming_again(make_engine: MakeEngine):
    engine = make_engine()
    params = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
    repeating, varied = (
        ids(engine.generate([Request(prompt(3), params.model_copy(update={"frequency_penalty": penalty}))])[0])
        for penalty in (-100.0, 100.0)
    )
    assert len(set(repeating)) == 1
    assert len(set(varied)) == 60
