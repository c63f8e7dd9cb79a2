"""The web API as the real OpenAI client sees it."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import openai
import pytest

from troth.model.tokenizer import Tokenizer

from .conftest import wait_until

MODEL = "tiny"
HELLO = [{"role": "user", "content": "Where there is smoke?"}]
STEADY: dict[str, Any] = {"extra_body": {"ignore_eos": True}}


def chat(client: openai.OpenAI, **changes: Any) -> Any:
    return client.chat.completions.create(**({"model": MODEL, "messages": HELLO, "max_tokens": 12} | STEADY | changes))


def complete(client: openai.OpenAI, **changes: Any) -> Any:
    return client.completions.create(**({"model": MODEL, "prompt": "A bird in", "temperature": 0} | STEADY | changes))


def free(server: str) -> bool:
    health = httpx.get(f"{server}/health").json()
    return health["running"] == 0 and health["free_cache_blocks"] == health["cache_blocks"]


def test_models(client: openai.OpenAI):
    [model] = client.models.list().data
    assert model.id == MODEL
    assert client.models.retrieve(MODEL).model_extra["max_model_len"] == 4096
    with pytest.raises(openai.NotFoundError, match="does not exist") as error:
        client.models.retrieve("gpt/other")
    assert error.value.code == "model_not_found"


def test_chat(client: openai.OpenAI, tokenizer: Tokenizer):
    answer = chat(client, temperature=0)
    [choice] = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "length"
    asked = "<|endoftext|><|fim_prefix|> Where there is smoke?<|fim_suffix|>.<|fim_middle|>"
    prompt = len(tokenizer.encode_special(asked))
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (prompt, 12)
    assert answer.usage.total_tokens == prompt + 12
    parts = [{"type": "text", "text": "Where there "}, {"type": "text", "text": "is smoke?"}]
    same = chat(client, temperature=0, messages=[{"role": "user", "content": parts}])
    assert same.choices[0].message.content == choice.message.content


def test_streamed_chat_is_the_same_text_with_usage(client: openai.OpenAI):
    whole = chat(client, temperature=0)
    chunks = list(chat(client, temperature=0, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len(chunks) > 5
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 12
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert all("usage" not in chunk.model_fields_set for chunk in chat(client, stream=True))


def test_completions_take_text_lists_and_ids(client: openai.OpenAI, tokenizer: Tokenizer):
    prompts = ["A bird in", "All that glitters"]
    texts = [complete(client, prompt=prompt).choices[0].text for prompt in prompts]
    both = complete(client, prompt=prompts)
    assert [choice.text for choice in both.choices] == texts
    assert texts[0] != texts[1]
    assert both.usage.completion_tokens == 32, "16 tokens each by default"
    assert both.usage.prompt_tokens == sum(len(tokenizer.encode(prompt)) for prompt in prompts)
    ids = [tokenizer.encode(prompt) for prompt in prompts]
    assert [choice.text for choice in complete(client, prompt=ids).choices] == texts
    assert complete(client, prompt=ids[1]).choices[0].text == texts[1]
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == texts[0]
    assert chunks[-1].usage.completion_tokens == 16


def test_a_suffix_fills_in_the_middle(client: openai.OpenAI, tokenizer: Tokenizer):
    before, after, middle = (tokenizer.special[f"<|fim_{name}|>"] for name in ("prefix", "suffix", "middle"))
    ids = [before, *tokenizer.encode("def f("), after, *tokenizer.encode("return x"), middle]
    filled = complete(client, prompt="def f(", suffix="return x")
    assert filled.choices[0].text == complete(client, prompt=ids).choices[0].text
    assert filled.usage.prompt_tokens == len(ids)


def test_stop_strings(client: openai.OpenAI):
    text = complete(client, max_tokens=40).choices[0].text
    stop = text[10:13]
    for found in (
        complete(client, max_tokens=40, stop=stop),
        complete(client, max_tokens=40, stop=["not there", stop]),
    ):
        assert found.choices[0].text == text[: text.index(stop)]
        assert found.choices[0].finish_reason == "stop"
    chunks = list(complete(client, max_tokens=40, stop=stop, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == text[: text.index(stop)]


def test_seeds_and_several_choices(client: openai.OpenAI):
    first, second, other = (chat(client, n=2, seed=seed, max_tokens=20) for seed in (7, 7, 9))
    texts = [[choice.message.content for choice in answer.choices] for answer in (first, second, other)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0][0] != texts[0][1]
    assert first.usage.completion_tokens == 40
    streamed = ["", ""]
    for chunk in chat(client, n=2, seed=7, max_tokens=20, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts[0]


def test_logprobs(client: openai.OpenAI, tokenizer: Tokenizer):
    answer = chat(client, temperature=0, logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == 12
    for entry in content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token
        assert entry.top_logprobs[0].logprob == entry.logprob
    text = b"".join(bytes(entry.bytes or ()) for entry in content).decode("utf-8", errors="replace")
    assert text.startswith(answer.choices[0].message.content)
    streamed = [
        entry.token
        for chunk in chat(client, temperature=0, logprobs=True, stream=True)
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content
    ]
    assert streamed == [entry.token for entry in content]
    plain = complete(client, logprobs=2, max_tokens=4).choices[0].logprobs
    assert len(plain.tokens) == len(plain.token_logprobs) == len(plain.text_offset) == 4
    assert plain.text_offset[1] == len(plain.tokens[0])
    assert all(0 < len(top) <= 2 for top in plain.top_logprobs)


def test_many_at_once_get_what_each_gets_alone(server: str, client: openai.OpenAI):
    saying = "many hands make light work and a rolling stone gathers no moss"
    words = saying.split()
    prompts = [" ".join(words[i % 7 :] * (1 + i % 9)) for i in range(32)]
    limits = [4 + 3 * (i % 5) for i in range(32)]

    async def one(clients: openai.AsyncOpenAI, prompt: str, limit: int, stream: bool) -> str:
        answer = await complete(clients, prompt=prompt, max_tokens=limit, stream=stream)
        if not stream:
            return answer.choices[0].text
        return "".join([chunk.choices[0].text async for chunk in answer])

    async def all_at_once() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as clients:
            jobs = zip(prompts, limits, [False, True] * 16, strict=True)
            return await asyncio.gather(*(one(clients, *job) for job in jobs))

    together = asyncio.run(all_at_once())
    for i in (0, 5, 13, 26, 31):
        assert together[i] == complete(client, prompt=prompts[i], max_tokens=limits[i]).choices[0].text
    assert free(server)


def test_a_client_that_leaves_frees_its_blocks(server: str, client: openai.OpenAI):
    with chat(client, stream=True, max_tokens=4000) as stream:
        next(iter(stream))
        # The first event is sent before the engine has taken a step.
        wait_until(lambda: not free(server))
    wait_until(lambda: free(server))
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 4000, "ignore_eos": True}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server}/v1/chat/completions", json=body, timeout=0.3)
    wait_until(lambda: free(server))


def test_too_many_waiting_get_a_429(run_server: Callable[..., AbstractContextManager[str]]):
    with run_server(max_batch=1, max_waiting=1) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        with chat(client, stream=True, max_tokens=4000) as running, chat(client, stream=True):
            next(iter(running))
            with pytest.raises(openai.RateLimitError) as error:
                chat(client)
        assert error.value.response.headers["retry-after"] == "1"
        assert error.value.body["type"] == "rate_limit_error"
        assert error.value.body["code"] == "too_many_requests"
        wait_until(lambda: free(url))
        assert chat(client).usage.completion_tokens == 12


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_counts_so_far_with_every_event(server: str, path: str):
    """As guidellm asks; the last event's are those of a stream without."""
    told = {"include_usage": True, "continuous_usage_stats": True}
    asked = {"model": MODEL, "max_tokens": 6, "temperature": 0, "ignore_eos": True, "stream": True, "n": 2}
    asked |= {"prompt": "A bird"} if path == "completions" else {"messages": HELLO}
    *events, done = httpx.post(f"{server}/v1/{path}", json=asked | {"stream_options": told}).text.split("\n\n")[:-1]
    assert done == "data: [DONE]"
    usages = [json.loads(event.removeprefix("data: "))["usage"] for event in events]
    known = [usage for usage in usages if usage is not None]
    counts = [usage["completion_tokens"] for usage in known]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1], len(usages) - len(known)) == (1, 12, 0 if path == "completions" else 2)
    assert len({usage["prompt_tokens"] for usage in known}) == 1
    *_, last, _ = httpx.post(
        f"{server}/v1/{path}", json=asked | {"stream_options": {"include_usage": True}}
    ).text.split("\n\n")[:-1]  # fmt: skip
    assert json.loads(last.removeprefix("data: "))["usage"]["completion_tokens"] == 12


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("chat/completions", {"messages": HELLO, "functions": None, "priority": None, "continue_final_message": None}),
        ("completions", {"prompt": "A bird", "echo": None, "skip_special_tokens": None, "cache_salt": None}),
        ("responses", {"input": "A bird", "conversation": None, "prompt": None}),
        ("messages", {"messages": HELLO, "max_tokens": 4, "thread": None, "container": None}),
    ],
)
def test_null_is_as_left_out(server: str, path: str, asked: dict[str, Any]):
    answer = httpx.post(f"{server}/v1/{path}", json={"model": MODEL, "temperature": None, "stream": None} | asked)
    assert answer.status_code == 200, answer.text


def test_what_clients_commonly_send_is_accepted(client: openai.OpenAI):
    without_effect = {"user": "someone", "store": False, "metadata": {"a": "b"}, "service_tier": "auto"}
    without_effect |= {"prompt_cache_key": "talk-7", "extra_headers": {"x-grok-conv-id": "talk-7"}}
    nothing_asked = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "stop": None, "logprobs": False}
    nothing_asked["prediction"] = {"type": "content", "content": "smoke"}
    answer = chat(client, response_format={"type": "text"}, reasoning_effort="low", **without_effect, **nothing_asked)
    earlier = answer.choices[0].message.model_dump()
    assert chat(client, messages=[*HELLO, earlier, *HELLO]).usage.completion_tokens == 12
