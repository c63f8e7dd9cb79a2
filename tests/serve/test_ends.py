"""Where a text may end: at the tokens that a request names, and not before the tokens that it wants at least."""

from collections.abc import Callable

import httpx
import torch

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.drawer import TorchDrawer
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request, SampledToken
from troth.serve.engine.sampler import sample
from troth.serve.engine.sampling_params import Grammar, Json, SamplingParams, Tag
from troth.serve.engine.sequence import Sequence


def generated(engine: Engine, prompt: tuple[int, ...], **params: object) -> tuple[list[int], str, str | None]:
    (outputs,) = engine.generate([Request(prompt, SamplingParams(temperature=0, **params))])
    ids = [token.id for output in outputs for token in output.tokens]
    return ids, "".join(output.text for output in outputs), outputs[-1].finish_reason


def test_a_text_ends_at_the_tokens_that_are_named_and_without_them(
    make_engine: Callable[..., Engine], tokenizer: Tokenizer
):
    engine, prompt = make_engine(), tuple(tokenizer.encode("A bird in the hand"))
    whole, _, _ = generated(engine, prompt, max_tokens=12, ignore_eos=True)
    place = next(i for i in range(3, 12) if whole[i] not in whole[:i])
    for ignores in (True, False):
        ids, text, reason = generated(engine, prompt, max_tokens=12, ignore_eos=ignores, stop_token_ids=(whole[place],))
        assert ids == whole[: place + 1]
        assert text == tokenizer.decode(whole[:place])
        assert reason == "stop"
    ids, _, reason = generated(
        engine, prompt, max_tokens=12, ignore_eos=True, stop_token_ids=(whole[place],), min_tokens=place + 3
    )
    assert len(ids) >= place + 3
    assert whole[place] not in ids[: place + 2]


def test_stop_strings_count_behind_the_tokens_that_a_text_has_at_least(
    make_engine: Callable[..., Engine], tokenizer: Tokenizer
):
    engine, prompt = make_engine(), tuple(tokenizer.encode("A bird in the hand"))
    _, whole, _ = generated(engine, prompt, max_tokens=12, ignore_eos=True)
    least = next(count for count in range(1, 12) if len(generated(engine, prompt, max_tokens=count)[1]) >= 3)
    first = whole[0]
    _, text, reason = generated(engine, prompt, max_tokens=12, ignore_eos=True, stop=(first,))
    assert (text, reason) == ("", "stop")
    _, text, reason = generated(engine, prompt, max_tokens=12, ignore_eos=True, stop=(first,), min_tokens=least)
    begun = generated(engine, prompt, max_tokens=least, ignore_eos=True)[1]
    assert text == begun + whole[len(begun) :].partition(first)[0]
    assert reason == ("stop" if first in whole[len(begun) :] else "length")


def test_a_call_in_a_text_is_not_cut_by_stop_strings():
    """They count before it and behind it."""
    tag = Tag(name="a", begin='<call>{"a": ', value=Json(name="a", schema_text="{}"), end="}</call>")
    grammar = Grammar(tags=(tag,), trigger="<call>")
    for before, call, behind in (("See: ", '<call>{"a": "i, j"}</call>', ", k"), ("See, ", "<call>", "")):
        params = SamplingParams(stop=(", ", '"'), grammar=grammar)
        sequence, text, reason = Sequence(Request((0,), params), 100), "", None
        for char in (before + call + behind).encode():
            output = sequence.append(SampledToken(1), bytes([char]), ends=False)
            text += output.text
            if output.finish_reason:
                reason = output.stop_reason
                break
        assert (text, reason) == ("See: " + call if behind else "See", ", ")


def test_no_text_ends_before_the_tokens_that_it_should_have_at_least():
    sequence = Sequence(Request((0,), SamplingParams(temperature=0, min_tokens=2, stop_token_ids=(3,))), 10)
    drawn = []
    for _ in range(4):
        (token,) = sample(torch.tensor([[0.0, 1.0, 5.0, 4.0]]), [sequence], TorchDrawer(), [2])
        sequence.append(token, b"", ends=token.id == 2)
        drawn.append(token.id)
    assert drawn == [1, 1, 2, 2]


def test_a_token_that_there_is_not_is_named(server: str):
    body = {"model": "tiny", "prompt": "A bird", "stop_token_ids": [10**6]}
    answer = httpx.post(f"{server}/v1/completions", json=body)
    assert answer.status_code == 400
    assert "token 1000000 is unknown" in answer.json()["error"]["message"]


def test_a_chat_may_want_tokens_at_least(server: str, tokenizer: Tokenizer):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "A bird"}], "max_tokens": 30}
    body["logit_bias"] = {str(tokenizer.end_of_text): 100}
    counts = [
        httpx.post(f"{server}/v1/chat/completions", json=body | more).json()["usage"]["completion_tokens"]
        for more in ({}, {"min_tokens": 5})
    ]
    assert counts == [1, 6]
