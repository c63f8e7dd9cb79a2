"""Embeddings, tokens and deferred answers, as clients ask for them."""

import base64
import json
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.tokenizer import Tokenizer
from troth.security.keys import add_key
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import SamplingParams

from .conftest import save_random_model, wait_until

HELLO = [{"role": "user", "content": "Where there is smoke?"}]


def expected(plain: Decoder, ids: list[int]) -> torch.Tensor:
    """By the model itself, in one pass and without a cache."""
    with torch.inference_mode():
        mean_D = plain(torch.tensor([ids]))[0].mean(0)
    return mean_D / mean_D.norm()


def test_embeddings_are_the_mean_of_last_hidden_states(
    client: openai.OpenAI, plain: Decoder, tokenizer: Tokenizer, proverbs: str
):
    texts = ["A bird", proverbs, "A bird in the hand", proverbs]
    found = client.embeddings.create(model="tiny", input=texts, encoding_format="float")
    ids = [tokenizer.encode(text) for text in texts]
    assert found.usage.prompt_tokens == found.usage.total_tokens == sum(map(len, ids))
    assert [item.index for item in found.data] == [0, 1, 2, 3]
    for item, tokens in zip(found.data, ids, strict=True):
        torch.testing.assert_close(torch.tensor(item.embedding), expected(plain, tokens), atol=1e-4, rtol=1e-3)


def test_embeddings_of_ids_in_base64_and_shortened(client: openai.OpenAI, server: str, tokenizer: Tokenizer):
    [whole] = client.embeddings.create(model="tiny", input="A bird in the hand", encoding_format="float").data
    ids = tokenizer.encode("A bird in the hand")
    raw = httpx.post(f"{server}/v1/embeddings", json={"input": [ids, ids[:2]], "encoding_format": "base64"}).json()
    unpacked = struct.unpack("<64f", base64.b64decode(raw["data"][0]["embedding"]))
    assert unpacked == pytest.approx(whole.embedding, abs=1e-5)
    [short] = client.embeddings.create(model="tiny", input=ids, dimensions=8).data
    assert len(short.embedding) == 8
    assert sum(value**2 for value in short.embedding) == pytest.approx(1, abs=1e-5)
    assert short.embedding[0] / short.embedding[1] == pytest.approx(whole.embedding[0] / whole.embedding[1], rel=1e-3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input": []}, "empty"),
        ({"input": ""}, "empty"),
        ({"input": ["a", ""]}, "empty"),
        ({"input": "x", "dimensions": 65}, "this model has 64"),
        ({"input": [4000]}, "token 4000 is unknown"),
        ({"input": "long " * 6000}, "at most 4095 fit"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors_of_embeddings(server: str, change: dict[str, Any], says: str):
    answer = httpx.post(f"{server}/v1/embeddings", json=change)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def test_embeddings_and_texts_share_steps_and_give_all_blocks_back(
    make_engine: Callable[..., Engine], plain: Decoder
):
    engine = make_engine(max_step_tokens=16, cache_tokens=256)
    params = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    prompts = [tuple(range(20 + 3 * i)) for i in range(4)]
    alone = [engine.generate([Request(prompt, params)])[0] for prompt in prompts]
    # The cache is too small for all at once, so that some are computed anew.
    mixed = engine.generate(
        [Request(prompt, params, pooled=pooled) for prompt in prompts for pooled in (False, True, False)]
    )
    assert engine.stats.preemptions > 0
    assert engine.stats.free_blocks == engine.stats.blocks
    for place, prompt in enumerate(prompts):
        first, [pooled], second = mixed[3 * place : 3 * place + 3]
        for text in (first, second):
            assert [output.tokens for output in text] == [output.tokens for output in alone[place]]
        vector_D = torch.tensor(pooled.embedding)
        torch.testing.assert_close(vector_D / vector_D.norm(), expected(plain, list(prompt)), atol=1e-4, rtol=1e-3)


def test_tokens_of_texts_and_conversations(server: str, tokenizer: Tokenizer):
    def post(path: str, **body: Any) -> httpx.Response:
        return httpx.post(f"{server}{path}", json={"model": "tiny"} | body)

    text = "Écoute et répète, naïve <|endoftext|>"
    answer = post("/tokenize", prompt=text, return_token_strs=True).json()
    assert answer["tokens"] == tokenizer.encode_special(text)
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["max_model_len"] == 4096
    assert post("/detokenize", tokens=answer["tokens"]).json() == {"prompt": text}
    chat = post("/tokenize", messages=HELLO).json()
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 1}
    asked = httpx.post(f"{server}/v1/chat/completions", json=body).json()
    assert chat["count"] == asked["usage"]["prompt_tokens"]
    assert "token_strs" not in chat
    begun = [*HELLO, {"role": "assistant", "content": "There is"}]
    longer = post("/tokenize", messages=begun, continue_final_message=True, chat_template_kwargs={"x": 1}).json()
    assert tokenizer.decode(longer["tokens"]).endswith("There is")
    assert post("/tokenize", messages=[{"role": "user"}], continue_final_message=True).status_code == 400
    assert post("/tokenize").status_code == 400
    assert post("/tokenize", prompt="x", messages=HELLO).status_code == 400
    assert post("/tokenize", messages=["hello"]).status_code == 400
    assert post("/detokenize", tokens=[-1]).json()["error"]["param"] == "tokens"


def test_tokens_of_a_conversation_are_those_that_a_chat_has(talking: str):
    """However it is written: in parts, with what templates do not know, from which an answer goes on."""

    def count(path: str, **body: Any) -> int:
        # The first grammar of a server takes some seconds.
        answer = httpx.post(f"{talking}{path}", json={"model": "talker"} | body, timeout=60).json()
        return answer["count"] if path == "/tokenize" else answer["usage"]["prompt_tokens"]

    call = {"id": "c", "type": "function", "function": {"name": "now", "arguments": '{"a": 1}'}}
    said = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        *HELLO, {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "noon"},
    ]  # fmt: skip
    tools = [{"type": "function", "function": {"name": "now", "strict": True}}]
    begun = {"messages": [*HELLO, {"role": "assistant", "content": "There"}], "continue_final_message": True}
    thoughts = [{"messages": HELLO, "reasoning_effort": effort} for effort in ("none", "high")]
    thoughts += [{"messages": HELLO, "reasoning": {"effort": "low"}}]
    assert len({count("/tokenize", **chat) for chat in thoughts}) == 2, "a chat that reasons begins to"
    unseen = {"messages": said, "tools": tools, "tool_choice": "none"}
    for chat in ({"messages": said, "tools": tools}, begun, unseen, *thoughts):
        assert count("/tokenize", **chat) == count("/v1/chat/completions", max_tokens=1, **chat)
    for wrong, param in (
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": HELLO, "chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        ({"messages": HELLO, "reasoning_effort": "much"}, "reasoning_effort"),
        (begun | {"messages": HELLO}, None),
    ):
        refused = httpx.post(f"{talking}/tokenize", json=wrong)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("published", ["mixtral"], indirect=True)
def test_texts_stand_behind_the_token_that_their_model_expects(
    published: tuple[str, Path], config: ModelConfig, run_server: Callable[..., AbstractContextManager[str]],
    tmp_path: Path,
):  # fmt: skip
    words = Tokenizer.load(published[1])
    shape = config.model_copy(update={"vocab_size": words.vocab_size})
    with run_server(save_random_model(tmp_path / "mixtral", shape, words)) as url:

        def post(path: str, **body: Any) -> dict[str, Any]:
            found: dict[str, Any] = httpx.post(f"{url}{path}", json={"model": "mixtral"} | body).json()
            return found

        text = "A bird in the hand"
        plain = words.encode(text)
        assert post("/tokenize", prompt=text)["tokens"] == [words.special["<s>"], *plain]
        assert post("/tokenize", prompt=f"<s>{text}")["tokens"][:2] == [words.special["<s>"], plain[0]]
        assert post("/tokenize", prompt=text, add_special_tokens=False)["tokens"] == plain
        for prompt, count in ((text, len(plain) + 1), (plain, len(plain)), ([text, text], 2 * len(plain) + 2)):
            answer = post("/v1/completions", prompt=prompt, max_tokens=1)
            assert answer["usage"]["prompt_tokens"] == count
        assert post("/v1/embeddings", input=text)["usage"]["prompt_tokens"] == len(plain) + 1



def test_what_there_is_to_know_of_the_tokenizer(server: str, talker: Path, talking: str):
    """As lm-evaluation-harness asks before it lets a server count its tokens."""
    found = httpx.get(f"{server}/tokenizer_info").json()
    assert (found["eos_token"], found["tokenizer_class"]) == ("<|endoftext|>", "PreTrainedTokenizerFast")
    told = json.loads((talker / "tokenizer_config.json").read_text())
    assert httpx.get(f"{talking}/tokenizer_info").json() == told
    assert "chat_template" in told


def test_a_deferred_answer_is_fetched_later(run_server: Callable[..., AbstractContextManager[str]]):
    with run_server(max_batch=1) as url:
        body = {"model": "tiny", "messages": HELLO, "temperature": 0, "max_tokens": 3000, "ignore_eos": True}
        asked = httpx.post(f"{url}/v1/chat/completions", json=body | {"deferred": True}).json()
        assert set(asked) == {"request_id"}
        address = f"{url}/v1/chat/deferred-completion/{asked['request_id']}"
        pending = httpx.get(address)
        assert pending.status_code == 202
        wait_until(lambda: httpx.get(address).status_code == 200)
        later = httpx.get(address).json()
        now = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        assert later["choices"] == now["choices"]
        assert later["object"] == "chat.completion"
        assert httpx.get(f"{address}x").status_code == 404
        # Also with fields whose names are no names in Python.
        for more, says in (
            ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"const": 1}}}}, "1"),
            ({"structured_outputs": {"json": {"const": 2}}}, "2"),
        ):
            held = {"messages": HELLO, "deferred": True, "model": "tiny"} | more
            request_id = httpx.post(f"{url}/v1/chat/completions", json=held).json()["request_id"]
            later = f"{url}/v1/chat/deferred-completion/{request_id}"
            wait_until(lambda at=later: httpx.get(at).status_code != 202)
            assert httpx.get(later).json()["choices"][0]["message"]["content"] == says
        refused = httpx.post(f"{url}/v1/chat/completions", json=body | {"deferred": True, "stream": True})
        assert refused.status_code == 400
        assert "stream is false" in refused.json()["error"]["message"]


def test_deferred_answers_leave_room_for_others(serve_process: Callable[..., AbstractContextManager], tmp_path: Path):
    """In the places for answers, of which a key has a quarter, and in memory."""
    one, other = (add_key(tmp_path / "keys.json", name) for name in ("one", "other"))
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 1, "deferred": True}

    def ask(key: str, **more: Any) -> httpx.Response:
        return asking.post("/v1/chat/completions", json=body | more, headers={"Authorization": f"Bearer {key}"})

    options = ("--set", f"serve.api_keys={tmp_path / 'keys.json'}", "--set", "serve.max_batch=1")
    with serve_process(*options) as process, httpx.Client(base_url=process.url, timeout=60) as asking:
        assert [ask(one).status_code for _ in range(256)] == [200] * 256
        assert "256 deferred answers of this key" in ask(one).json()["error"]["message"]
        large = {"user": "u" * 15_000_000, "max_tokens": 4000, "ignore_eos": True}
        statuses: list[int] = []
        while 429 not in statuses:
            statuses.append(ask(other, **large).status_code)
        # Some may have been answered meanwhile, and make room.
        assert 18 <= len(statuses) < 100
