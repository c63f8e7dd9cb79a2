"""Texts behind their prompts, with the log-probabilities of these: what evaluation harnesses read likelihoods from."""

import json
from collections.abc import Callable

import httpx
import openai
import pytest
import torch

from troth.model.decoder import Decoder
from troth.model.tokenizer import Tokenizer
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request, SampledToken
from troth.serve.engine.sampling_params import SamplingParams

LIKELIHOODS = SamplingParams(temperature=0, echo=True, logprobs=3, max_tokens=2, ignore_eos=True)


def told(engine: Engine, *prompts: tuple[int, ...], params: SamplingParams = LIKELIHOODS) -> list[list[SampledToken]]:
    outputs = engine.generate([Request(prompt, params) for prompt in prompts])
    return [[token for output in some for token in output.tokens] for some in outputs]


@torch.inference_mode()
def expected(plain: Decoder, size: int, ids: list[int]) -> torch.Tensor:
    """Of each token but the first, by the model itself in one pass; rows of its embedding from `size` on are no
    token's."""
    logits = plain.logits(plain(torch.tensor([ids])))[0, :-1, :size]
    return logits.float().log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def test_they_are_the_models_however_a_prompt_is_cut(
    make_engine: Callable[..., Engine], plain: Decoder, tokenizer: Tokenizer, proverbs: str
):
    """In one step or in many, alone or beside others, and again where the cache knows the prompt."""
    prompt = tuple(tokenizer.encode(proverbs))
    others = tuple(tokenizer.encode("A bird in the hand")), prompt[3:40]
    for engine in (make_engine(), make_engine(max_step_tokens=24, max_batch=2)):
        for tokens, ids in zip(told(engine, prompt, *others, prompt), (prompt, *others, prompt), strict=True):
            whole = [token.id for token in tokens]
            assert tuple(whole[: len(ids)]) == ids
            assert len(whole) == len(ids) + 2
            assert tokens[0].logprob is None
            found = torch.tensor([token.logprob for token in tokens[1:]])
            torch.testing.assert_close(found, expected(plain, tokenizer.vocab_size, whole), atol=1e-4, rtol=1e-4)
            assert all(len(token.top) == 3 and token.top[0][1] >= token.logprob - 1e-6 for token in tokens[1:])


def test_a_prompt_that_gives_way_is_scored_once(
    make_engine: Callable[..., Engine], plain: Decoder, tokenizer: Tokenizer
):
    """Where the cache is too small for all, one is put off and computed again."""
    engine = make_engine(cache_tokens=256, max_batch=4, max_step_tokens=48)
    prompts = [tuple(torch.randint(200, (100,), generator=torch.Generator().manual_seed(i)).tolist()) for i in range(4)]
    params = LIKELIHOODS.model_copy(update={"max_tokens": 40})
    for tokens, prompt in zip(told(engine, *prompts, params=params), prompts, strict=True):
        ids = [token.id for token in tokens]
        assert tuple(ids[:100]) == prompt
        assert len(ids) == 140
        found = torch.tensor([token.logprob for token in tokens[1:]])
        torch.testing.assert_close(found, expected(plain, tokenizer.vocab_size, ids), atol=1e-4, rtol=1e-4)
    assert engine.stats.preemptions


def test_without_log_probabilities_only_the_text_is_repeated(make_engine: Callable[..., Engine], tokenizer: Tokenizer):
    engine, prompt = make_engine(), tuple(tokenizer.encode("A bird in the hand is worth two in the bush, and so on"))
    params = LIKELIHOODS.model_copy(update={"logprobs": None})
    for _ in range(2):
        (outputs,) = engine.generate([Request(prompt, params)])
    assert outputs[0].cached_tokens
    assert all(token.logprob is None for output in outputs for token in output.tokens)
    assert tuple(token.id for token in outputs[0].tokens[:-1]) == prompt


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kept", [None, 3])
def test_the_prompt_is_repeated_as_it_was_given(
    client: openai.OpenAI, tokenizer: Tokenizer, stream: bool, kept: int | None
):
    """With the special tokens that it spells; ids, and what is left of a prompt, as they are spelt."""
    prompt = "<|user|>A bird<|end|>"
    ids = tokenizer.encode_special(prompt)
    for given in (prompt, ids, [prompt, "A"], [ids]):
        asked = {"model": "tiny", "prompt": given, "max_tokens": 2, "temperature": 0, "stream": stream, "echo": True}
        answer = client.completions.create(**asked, extra_body={"truncate_prompt_tokens": kept, "ignore_eos": True})
        events = list(answer) if stream else [answer]
        text = "".join(choice.text for event in events for choice in event.choices if choice.index == 0)
        assert text.startswith(prompt if kept is None else tokenizer.decode(ids[-kept:]))


@pytest.mark.parametrize("stream", [False, True])
def test_half_of_a_surrogate_pair_is_mended(server: str, stream: bool):
    body = json.dumps({"model": "tiny", "prompt": "a \ud800", "max_tokens": 1, "stream": stream, "echo": True})
    answer = httpx.post(f"{server}/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert '"text":"a \ufffd' in answer.text


@pytest.mark.parametrize("stream", [False, True])
def test_over_http(client: openai.OpenAI, tokenizer: Tokenizer, stream: bool):
    """As lm-evaluation-harness asks: ids, one token more, and what its prompt was worth."""
    ids = tokenizer.encode("A bird in the hand")
    asked = {"model": "tiny", "prompt": [ids], "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}
    if stream:
        events = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        choices, usage = [event.choices[0] for event in events if event.choices], events[-1].usage
    else:
        answer = client.completions.create(**asked)
        choices, usage = answer.choices, answer.usage
    text, found = "".join(choice.text for choice in choices), [choice.logprobs for choice in choices if choice.logprobs]
    assert text.startswith("A bird in the hand")
    assert len(text) == sum(len(token) for one in found for token in one.tokens)
    assert found[0].token_logprobs[0] is found[0].top_logprobs[0] is None
    values = [value for one in found for value in one.token_logprobs][1:]
    assert len(values) == len(ids)
    assert all(value <= 0 for value in values)
    offsets = [offset for one in found for offset in one.text_offset]
    assert offsets == sorted(offsets)
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(ids), 1)


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_but_the_prompt(client: openai.OpenAI, tokenizer: Tokenizer, stream: bool):
    """As scripts ask that score texts: no token is generated."""
    text = "A bird in the hand"
    asked = {"model": "tiny", "prompt": text, "max_tokens": 0, "logprobs": 1, "echo": True}
    if stream:
        *events, last = client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        choices, usage = [event.choices[0] for event in events], last.usage
    else:
        answer = client.completions.create(**asked)
        choices, usage = answer.choices, answer.usage
    [choice] = choices
    assert (choice.text, choice.finish_reason) == (text, "length")
    assert len(choice.logprobs.token_logprobs) == len(tokenizer.encode(text)) == usage.prompt_tokens
    assert (usage.completion_tokens, usage.total_tokens) == (0, usage.prompt_tokens)
    if not stream:
        scored = client.completions.create(
            model="tiny", prompt=text, max_tokens=0, extra_body={"prompt_logprobs": 0, "return_token_ids": True}
        ).choices[0]
        values = [next(iter(found.values()))["logprob"] for found in scored.prompt_logprobs[1:]]
        assert values == pytest.approx(choice.logprobs.token_logprobs[1:], abs=1e-4)
        assert (scored.text, scored.token_ids) == ("", [])
        with pytest.raises(openai.BadRequestError, match="max_tokens 0 asks for the prompt alone"):
            client.completions.create(model="tiny", prompt=text, max_tokens=0)


def test_between_two_texts_there_is_no_echo(server: str):
    answer = httpx.post(f"{server}/v1/completions", json={"model": "tiny", "prompt": "A", "suffix": "b", "echo": True})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "echo"
