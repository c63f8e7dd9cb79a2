"""What vLLM's clients send beyond OpenAI's fields, in chats and completions: which tokens may come, what a text shows,
and what else is told of it."""

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import Grammar, Pattern, SamplingParams

HELLO = [{"role": "user", "content": "A bird in the hand"}]
LONG = "A bird in the hand is worth two in the bush. "


def complete(client: openai.OpenAI, **extra: Any) -> Any:
    own = {key: extra.pop(key) for key in ("prompt", "stop", "logprobs", "echo", "n", "stream") if key in extra}
    asked: dict[str, Any] = {"model": "tiny", "prompt": "A bird in the hand", "temperature": 0, "max_tokens": 12} | own
    return client.completions.create(**asked, extra_body={"ignore_eos": True} | extra)


def chat(client: openai.OpenAI, **extra: Any) -> Any:
    own = {key: extra.pop(key) for key in ("messages", "n", "max_tokens", "stream") if key in extra}
    asked: dict[str, Any] = {"model": "tiny", "messages": HELLO, "temperature": 0, "max_tokens": 8} | own
    return client.chat.completions.create(**asked, extra_body={"ignore_eos": True} | extra)


def test_the_stop_string_may_be_part_of_the_text(client: openai.OpenAI, tokenizer: Tokenizer):
    spelt = {"skip_special_tokens": False}
    whole = complete(client, return_token_ids=True, **spelt).choices[0]
    stop = whole.text[-3:]
    for included in (False, True):
        choice = complete(client, stop=[stop], include_stop_str_in_output=included, **spelt).choices[0]
        assert choice.text == whole.text.partition(stop)[0] + stop * included
        assert choice.finish_reason == "stop"
    place = next(i for i in range(3, 12) if whole.token_ids[i] not in whole.token_ids[:i])
    for included in (False, True):
        ends = {"stop_token_ids": [whole.token_ids[place]], "include_stop_str_in_output": included} | spelt
        expected = tokenizer.decode(whole.token_ids[: place + included])
        assert complete(client, **ends).choices[0].text == expected
        chunks = complete(client, stream=True, **ends)
        assert "".join(chunk.choices[0].text for chunk in chunks) == expected


def test_what_ended_a_text(client: openai.OpenAI, tokenizer: Tokenizer):
    """The stop string or the token that the request named, in the last event of streams; otherwise null."""
    ids = complete(client, return_token_ids=True).choices[0].token_ids
    place = next(i for i in range(3, 12) if ids[i] not in ids[:i])
    text, end = tokenizer.decode(ids[:place]), {"logit_bias": {str(tokenizer.special["<|endoftext|>"]): 100}}
    for asked, reason in (
        ({"stop": ["zzz", text[-2:]]}, text[-2:]), ({"stop_token_ids": [ids[place]]}, ids[place]), ({}, None),
        ({"ignore_eos": False, **end}, None),
    ):  # fmt: skip
        assert complete(client, **asked).choices[0].model_extra["stop_reason"] == reason
        *before, last = complete(client, stream=True, **asked)
        assert last.choices[0].model_extra["stop_reason"] == reason
        assert not any("stop_reason" in event.choices[0].model_extra for event in before)
    said = chat(client).choices[0]
    assert said.model_extra["stop_reason"] is None
    stopped = chat(client, stop=said.message.content[2:4]).choices[0]
    assert stopped.model_extra["stop_reason"] == said.message.content[2:4]
    *before, last = chat(client, stop=said.message.content[2:4], stream=True)
    assert last.choices[0].model_extra["stop_reason"] == said.message.content[2:4]


def test_special_tokens_are_spelt_where_asked_for(client: openai.OpenAI, tokenizer: Tokenizer):
    """The end of a text is no part of it either way, but where it is asked for as well."""
    mark, end = (tokenizer.special[text] for text in ("<|user|>", "<|endoftext|>"))
    for token, more, expected in (
        (mark, {}, ""),
        (mark, {"skip_special_tokens": False}, "<|user|>" * 12),
        (end, {"skip_special_tokens": False, "ignore_eos": False}, ""),
        (end, {"skip_special_tokens": False, "ignore_eos": False, "include_stop_str_in_output": True}, "<|endoftext|>"),
    ):
        assert complete(client, logit_bias={str(token): 100}, **more).choices[0].text == expected


def test_only_tokens_that_are_allowed(client: openai.OpenAI, tokenizer: Tokenizer):
    allowed = [*tokenizer.encode("bush"), *tokenizer.encode("hand")]
    answers = [
        complete(client, allowed_token_ids=allowed, return_token_ids=True).choices[0],
        chat(client, allowed_token_ids=allowed, return_token_ids=True, temperature=2).choices[0],
    ]
    for choice in answers:
        assert set(choice.token_ids) <= set(allowed)


def test_bad_words_are_not_said(make_engine: Callable[..., Engine], tokenizer: Tokenizer):
    """Of one token and of two, over many greedy tokens that would say them; the first half of a word may come."""
    engine, prompt = make_engine(), tuple(tokenizer.encode("A bird in the hand"))

    def said(**params: Any) -> list[int]:
        asked = SamplingParams(temperature=0, max_tokens=100, ignore_eos=True, **params)
        (outputs,) = engine.generate([Request(prompt, asked)])
        return [token.id for output in outputs for token in output.tokens]

    def holds(ids: list[int], word: list[int]) -> bool:
        return any(ids[i : i + len(word)] == word for i in range(len(ids)))

    whole = said()
    texts = {i: tokenizer.decode(whole[i : i + 2]) for i in range(10, 98)}
    two = next(i for i, text in texts.items() if tokenizer.encode(text, behind="text") == whole[i : i + 2])
    one = next(token for token in whole if tokenizer.encode(tokenizer.decode([token]), behind="text") == [token])
    changed = said(bad_words=(texts[two], tokenizer.decode([one])))
    assert holds(whole, [one])
    assert not holds(changed, [one])
    assert not holds(changed, whole[two : two + 2])
    assert holds(said(bad_words=(texts[two],)), whole[two : two + 1])


def test_a_grammar_goes_before_what_is_unwanted(make_engine: Callable[..., Engine], tokenizer: Tokenizer):
    form = Grammar(value=Pattern(name="choice", choice=("yes", "yes, yes")))
    asked = SamplingParams(temperature=1, grammar=form, bad_words=("yes",), allowed_token_ids=(70,))
    (outputs,) = make_engine().generate([Request(tuple(tokenizer.encode("Is it?")), asked)])
    assert "".join(output.text for output in outputs) in ("yes", "yes, yes")


def test_what_the_prompt_was_worth(client: openai.OpenAI, tokenizer: Tokenizer):
    """The same as `echo` tells, with ranks, once for a chat and with each text of a completion."""
    ids = tokenizer.encode("A bird in the hand")
    choice = complete(client, prompt_logprobs=2, logprobs=0).choices[0]
    echoed = complete(client, logprobs=2, echo=True).choices[0].logprobs
    assert choice.text == echoed.tokens[-1] or len(echoed.tokens) == len(ids) + 12
    assert choice.prompt_logprobs[0] is None
    for token, found, logprob in zip(ids[1:], choice.prompt_logprobs[1:], echoed.token_logprobs[1:], strict=False):
        own = found[str(token)]
        assert own["logprob"] == pytest.approx(logprob, abs=1e-4)
        assert own["decoded_token"] == tokenizer.decode([token])
        ranks = sorted(entry["rank"] for entry in found.values())
        assert ranks == ([1, 2] if own["rank"] <= 2 else [1, 2, own["rank"]])
        assert next(iter(found)) == str(token)
    assert len(choice.prompt_logprobs) == len(ids)
    answer = chat(client, prompt_logprobs=0, n=2, return_token_ids=True)
    assert [next(iter(found)) for found in answer.prompt_logprobs[1:]] == list(map(str, answer.prompt_token_ids[1:]))


def test_the_cache_is_shared_among_those_who_share_a_salt(client: openai.OpenAI):
    text = "Where is smoke without fire? " * 20
    for ask in (
        lambda **more: complete(client, prompt=text, **more),
        lambda **more: chat(client, messages=[{"role": "user", "content": text}], **more),
    ):

        def cached(**more: Any) -> int:
            return ask(**more).usage.prompt_tokens_details.cached_tokens  # noqa: B023

        assert [cached() > 0, cached() > 0] == [False, True]
        assert [cached(cache_salt="ours") > 0, cached(cache_salt="ours") > 0] == [False, True]
        assert cached(cache_salt="theirs") == 0
    with pytest.raises(openai.BadRequestError, match="at least 1 character"):
        complete(client, cache_salt="")


def test_only_the_end_of_a_long_prompt(client: openai.OpenAI, server: str, tokenizer: Tokenizer):
    ids = tokenizer.encode(LONG * 600)
    for count, kept in ((5, ids[-5:]), (-1, ids[-4084:]), (10**6, None)):
        if kept is None:
            with pytest.raises(openai.BadRequestError, match="at most 4095 fit"):
                complete(client, prompt=LONG * 600, truncate_prompt_tokens=count)
            continue
        assert complete(client, prompt=LONG * 600, truncate_prompt_tokens=count, return_token_ids=True).choices[
            0
        ].prompt_token_ids == kept  # fmt: skip
    answer = chat(client, messages=[{"role": "user", "content": LONG * 600}], truncate_prompt_tokens=-1)
    assert answer.usage.prompt_tokens == 4096 - 8
    body = {"input": [LONG * 600, "A"], "truncate_prompt_tokens": -1}
    assert httpx.post(f"{server}/v1/embeddings", json=body).json()["usage"]["prompt_tokens"] == 4095 + 1


def test_special_tokens_count_as_such_in_prompts_and_not_in_messages(
    client: openai.OpenAI, server: str, tokenizer: Tokenizer
):
    spelt, mark = "<|user|>A bird", tokenizer.special["<|user|>"]
    asked = {"model": "tiny", "prompt": spelt, "max_tokens": 1, "return_token_ids": True}
    (choice,) = httpx.post(f"{server}/v1/completions", json=asked).json()["choices"]
    assert choice["prompt_token_ids"] == [mark, *tokenizer.encode("A bird")]
    tokens = httpx.post(f"{server}/tokenize", json={"prompt": spelt}).json()["tokens"]
    assert tokens == choice["prompt_token_ids"]
    answer = chat(client, messages=[{"role": "user", "content": "<|user|>"}], return_token_ids=True)
    assert mark not in answer.prompt_token_ids


@pytest.mark.parametrize("echo", [False, True])
def test_token_ids_come_whole_and_in_events(client: openai.OpenAI, tokenizer: Tokenizer, echo: bool):
    told = {"return_token_ids": True, "skip_special_tokens": False}
    choice = complete(client, echo=echo, **told).choices[0]
    assert choice.prompt_token_ids == tokenizer.encode("A bird in the hand")
    assert len(choice.token_ids) == 12
    assert choice.text == ("A bird in the hand" if echo else "") + tokenizer.decode(choice.token_ids)
    events = [event.choices[0] for event in complete(client, echo=echo, stream=True, **told)]
    assert [token for event in events for token in event.token_ids] == choice.token_ids
    assert events[0].prompt_token_ids == choice.prompt_token_ids
    answer = chat(client, return_token_ids=True)
    first, *events = chat(client, return_token_ids=True, stream=True)
    assert first.prompt_token_ids == answer.prompt_token_ids
    assert [token for event in events for token in event.choices[0].token_ids] == answer.choices[0].token_ids


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"allowed_token_ids": []}, "allowed_token_ids: List should have at least 1 item"),
        ({"allowed_token_ids": [10**6]}, "token 1000000 is unknown"),
        ({"bad_words": [""]}, "bad_words.0: String should have at least 1 character"),
        ({"bad_words": ["a"] * 257}, "bad_words: List should have at most 256 items"),
        ({"truncate_prompt_tokens": 0}, "nothing would be left of the prompt"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens: Input should be greater than or equal to -1"),
        ({"prompt_logprobs": 21}, "prompt_logprobs: Input should be less than or equal to 20"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs is only allowed when stream is false"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(server: str, change: dict[str, Any], says: str):
    for path, asked in (("completions", {"prompt": "A"}), ("chat/completions", {"messages": HELLO})):
        answer = httpx.post(f"{server}/v1/{path}", json={"model": "tiny", "max_tokens": 4} | asked | change)
        assert answer.status_code == 400, answer.text
        assert says in answer.json()["error"]["message"]
