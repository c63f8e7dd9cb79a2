"""xAI's own SDK, over gRPC, against a real server."""

import json
from collections.abc import Iterator
from typing import Literal

import httpx
import pydantic
import pytest

from .conftest import ServeProcess, wait_until

grpc = pytest.importorskip("grpc")
xai_sdk = pytest.importorskip("xai_sdk", reason="xAI's SDK is not installed: pip install 'troth[xai]'")
xai_chat = pytest.importorskip("xai_sdk.chat")

KEY = "xai-test-key"
ASK = "What is the weather in Paris?"


class Weather(pydantic.BaseModel):
    """Weather of a city."""

    city: Literal["Paris", "Lima"]
    sunny: bool


weather = xai_chat.tool(
    "weather", "Look up the weather of a city.",
    {"type": "object", "properties": {"city": {"enum": ["Paris", "Lima"]}}, "required": ["city"]},
)  # fmt: skip


@pytest.fixture(scope="module")
def process(serve_process, talker) -> Iterator[ServeProcess]:
    limits = ("--set", "serve.max_waiting=2", "--set", "serve.max_batch=4")
    with serve_process("--grpc-port", "0", *limits, model=talker, TROTH_API_KEY=KEY) as found:
        yield found


@pytest.fixture(scope="module")
def client(process: ServeProcess) -> Iterator["xai_sdk.Client"]:
    with connect(process) as found:
        yield found


def connect(process: ServeProcess, key: str = KEY) -> "xai_sdk.Client":
    """A client that tries no call again."""
    # Without probes of the connection's speed it takes 64 KiB ahead of its reader, and no more.
    options = [("grpc.enable_retries", 0), ("grpc.http2.bdp_probe", 0)]
    host = process.facts["grpc"]
    return xai_sdk.Client(api_key=key, api_host=host, channel_options=options, use_insecure_channel=True, timeout=60)


@pytest.mark.parametrize("together", [False, True], ids=["two files", "one file"])
def test_tls_is_spoken_by_the_same_certificate(serve_process, talker, certificate, monkeypatch, tmp_path, together):
    from google.protobuf import empty_pb2
    from xai_sdk.proto import models_pb2_grpc

    public, key = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(public))  # Whom HTTP clients trust.
    files = ["--ssl-certfile", str(public), "--ssl-keyfile", str(key)]
    if together:
        both = tmp_path / "both.pem"
        both.write_bytes(public.read_bytes() + key.read_bytes())
        files = ["--ssl-certfile", str(both)]
    trusted = grpc.ssl_channel_credentials(public.read_bytes())
    with serve_process("--grpc-port", "0", *files, model=talker) as process:
        with grpc.secure_channel(process.facts["grpc"], trusted) as channel:
            [model] = models_pb2_grpc.ModelsStub(channel).ListLanguageModels(empty_pb2.Empty(), timeout=30).models
            assert model.name == "talker"
        with grpc.insecure_channel(process.facts["grpc"]) as channel, pytest.raises(grpc.RpcError):
            models_pb2_grpc.ModelsStub(channel).ListLanguageModels(empty_pb2.Empty(), timeout=5)


def chat(client: "xai_sdk.Client", **settings):
    found = client.chat.create(**({"model": "talker", "max_tokens": 40, "seed": 3} | settings))
    found.append(xai_chat.user(ASK))
    return found


def code(error: pytest.ExceptionInfo) -> "grpc.StatusCode":
    return error.value.code()


def test_streamed_and_whole_answers_are_the_same(client: "xai_sdk.Client"):
    whole = chat(client).sample()
    *chunks, (streamed, last) = chat(client).stream()
    assert streamed.content == "".join(chunk.content for _, chunk in chunks) + last.content == whole.content
    assert streamed.finish_reason == whole.finish_reason != "REASON_INVALID"
    assert streamed.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert streamed.role == whole.role == "ROLE_ASSISTANT"


def test_several_answers_with_logprobs(client: "xai_sdk.Client"):
    first, second = chat(client, logprobs=True, top_logprobs=2).sample_batch(2)
    assert first.content != second.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in first.logprobs.content)
    *_, (streamed, _) = chat(client).stream_batch(2)
    assert [answer.content for answer in streamed] == [first.content, second.content]


@pytest.mark.parametrize("streams", [False, True])
def test_a_call_and_its_answer(client: "xai_sdk.Client", streams: bool):
    conversation = chat(
        client,
        tools=[weather],
        tool_choice=xai_chat.required_tool("weather"),
        parallel_tool_calls=False,
        max_tokens=200,
    )
    asked = list(conversation.stream())[-1][0] if streams else conversation.sample()
    assert asked.finish_reason == "REASON_TOOL_CALLS"
    [call] = asked.tool_calls
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Lima")
    # Results need not say of which call they are.
    more = [*conversation.messages, conversation.append(asked).messages[-1], xai_chat.tool_result("sunny")]
    answer = client.chat.create("talker", messages=more, tools=[weather], max_tokens=5).sample()
    assert answer.usage.prompt_tokens > asked.usage.prompt_tokens


def test_structured_output(client: "xai_sdk.Client"):
    _, found = chat(client, max_tokens=200).parse(Weather)
    assert found.city in ("Paris", "Lima")


@pytest.mark.parametrize("effort", ["none", "low"])
def test_reasoning(client: "xai_sdk.Client", effort: str):
    answer = chat(client, reasoning_effort=effort).sample()
    assert bool(answer.reasoning_content) == (answer.usage.reasoning_tokens > 0) == (effort == "low")


def test_deferred(client: "xai_sdk.Client"):
    assert chat(client).defer().content == chat(client).sample().content


def test_models_and_tokens(client: "xai_sdk.Client"):
    [model] = client.models.list_language_models()
    assert model == client.models.get_language_model("talker")
    assert model.max_prompt_length > 0
    text = "Écoute et répète."
    tokens = client.tokenize.tokenize_text(text, "talker")
    assert b"".join(token.token_bytes for token in tokens).decode() == text


def test_errors_have_grpcs_codes(client: "xai_sdk.Client", process: ServeProcess):
    with pytest.raises(grpc.RpcError) as unknown:
        chat(client, model="grok-9").sample()
    assert code(unknown) == grpc.StatusCode.NOT_FOUND
    assert unknown.value.details() == "The model 'grok-9' does not exist; this server has 'talker'"
    with pytest.raises(grpc.RpcError) as stored:
        chat(client, store_messages=True).sample()
    assert code(stored) == grpc.StatusCode.INVALID_ARGUMENT
    assert "store_messages is not supported" in stored.value.details()
    drawn = chat(client).append(xai_chat.user(xai_chat.image("https://example.org/a.png")))
    with pytest.raises(grpc.RpcError) as picture:
        next(drawn.stream())
    assert picture.value.details() == "messages[1].content has a picture or a file; this server reads text"
    with connect(process, "another") as stranger, pytest.raises(grpc.RpcError) as closed:
        chat(stranger).sample()
    assert code(closed) == grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as missing:
        client.image.sample("a bird", "painter")
    assert code(missing) == grpc.StatusCode.UNIMPLEMENTED


def test_too_many_are_refused(process: ServeProcess, client: "xai_sdk.Client"):
    with pytest.raises(grpc.RpcError) as never:
        chat(client).sample_batch(7)
    assert code(never) == grpc.StatusCode.INVALID_ARGUMENT
    body = {"prompt": "A bird", "max_tokens": 4000, "ignore_eos": True, "stream": True, "n": 5}
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.stream("POST", f"{process.url}/v1/completions", json=body, headers=headers) as other:
        held = other.iter_raw()  # dropped, it would close the connection
        next(held)
        with pytest.raises(grpc.RpcError) as crowded:
            chat(client).sample_batch(2)
    assert code(crowded) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(crowded.value.trailing_metadata())["retry-after"] == "1"


def test_who_leaves_costs_nothing_and_a_drain_finishes_what_streams(serve_process):
    with serve_process("--grpc-port", "0") as process, connect(process) as client:
        whole = long_chat(client).sample()
        leaving = long_chat(client).stream()
        next(leaving)
        assert not process.free()
        leaving.close()
        wait_until(process.free)

        staying = long_chat(client).stream()
        next(staying)
        process.process.terminate()
        wait_until(lambda: httpx.get(f"{process.url}/ready").status_code == 503)
        with connect(process) as late, pytest.raises(grpc.RpcError) as refused:
            chat(late, model="tiny").sample()
        assert code(refused) == grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in refused.value.details()
        *_, (answer, _) = staying
        assert answer.content == whole.content
        assert process.process.wait(30) == 0


def test_who_does_not_read_loses_the_answer(serve_process):
    with serve_process("--grpc-port", "0", "--set", "serve.max_unread=64") as process, connect(process) as client:
        stream = long_chat(client, logprobs=True, top_logprobs=20).stream()
        next(stream)
        wait_until(process.free)
        with pytest.raises(grpc.RpcError) as lost:
            list(stream)
        assert code(lost) == grpc.StatusCode.ABORTED
        assert "waiting to be read" in lost.value.details()


def long_chat(client: "xai_sdk.Client", **settings):
    """The same answer of hundreds of tokens each time."""
    return chat(client, model="tiny", temperature=0.0, max_tokens=3000, **settings)
