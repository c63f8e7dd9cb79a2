"""Anthropic's dialect as its own client sees it."""

from typing import Any, Literal

import anthropic
import httpx
import pytest

ASK = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOL = {
    "name": "weather", "description": "Weather of a city.",
    "input_schema": {
        "type": "object", "properties": {"city": {"enum": ["Paris", "Lima"]}}, "required": ["city"],
        "additionalProperties": False,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def client(talking: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=talking, api_key="none", max_retries=0, timeout=60)


def message(client: anthropic.Anthropic, **changes: Any) -> Any:
    return client.messages.create(**({"model": "talker", "messages": ASK, "max_tokens": 300} | changes))


def test_a_message(client: anthropic.Anthropic):
    answer = message(client, system="Be brief.")
    assert (answer.role, answer.type, answer.content[0].type) == ("assistant", "message", "text")
    assert answer.stop_reason in ("end_turn", "max_tokens")
    counted = client.messages.count_tokens(model="talker", messages=ASK, system="Be brief.")
    assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens == counted.input_tokens
    assert client.messages.count_tokens(model="talker", messages=ASK).input_tokens < counted.input_tokens


def test_stop_sequences_are_told(client: anthropic.Anthropic):
    letters = ["e", "a", "o", "t", "n", "i"]
    answers = [message(client, stop_sequences=letters) for _ in range(5)]
    stopped = [answer for answer in answers if answer.stop_reason == "stop_sequence"]
    assert stopped
    for answer in stopped:
        assert answer.stop_sequence in letters
        assert not set(letters) & set(answer.content[0].text)


def test_calls_and_their_results(client: anthropic.Anthropic):
    answer = message(client, tools=[TOOL], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    [call] = answer.content
    assert (answer.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "weather")
    assert call.input["city"] in ("Paris", "Lima")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]}
    turns = [*ASK, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    more = client.messages.count_tokens(model="talker", messages=turns, tools=[TOOL]).input_tokens
    assert more > answer.usage.input_tokens + answer.usage.cache_read_input_tokens
    named = message(client, tools=[TOOL], tool_choice={"type": "tool", "name": "weather"})
    assert {block.type for block in named.content} == {"tool_use"}


@pytest.mark.parametrize(
    "asked",
    [
        {"thinking": {"type": "enabled", "budget_tokens": 20}},
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
    ],
    ids=list,
)
def test_events_tell_the_whole_message(client: anthropic.Anthropic, asked: dict[str, Any]):
    with client.messages.stream(model="talker", messages=ASK, max_tokens=200, **asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == len(final.content)
    assert final.usage.output_tokens > 0
    if "thinking" in asked:
        assert final.content[0].type == "thinking"
        assert 20 <= final.usage.output_tokens_details.thinking_tokens < 40
        sent_back = [*ASK, {"role": "assistant", "content": final.content}, *ASK]
        assert message(client, messages=sent_back, max_tokens=1).usage.output_tokens == 1
    else:
        assert final.stop_reason == "tool_use"
        assert all(block.input["city"] in ("Paris", "Lima") for block in final.content)


def test_json_of_a_schema(client: anthropic.Anthropic):
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
    answer = message(client, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert answer.content[0].text in ('{"sure": true}', '{"sure": false}')


def test_an_answer_goes_on_from_the_assistants_text(client: anthropic.Anthropic):
    """It comes without that text, which ends the prompt."""

    def counted(*begun: dict[str, Any]) -> int:
        return client.messages.count_tokens(model="talker", messages=[*ASK, *begun]).input_tokens

    begun = {"role": "assistant", "content": [{"type": "text", "text": "It is"}]}
    assert counted() < counted(begun) < counted(begun, ASK[0])
    answer = message(client, messages=[*ASK, begun])
    assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens == counted(begun)
    assert not answer.content[0].text.startswith("It is")
    for wrong in ("", "It is "):
        with pytest.raises(anthropic.BadRequestError, match="is empty or ends with white space"):
            message(client, messages=[*ASK, {"role": "assistant", "content": wrong}])
    call = {"type": "tool_use", "id": "1", "name": "weather", "input": {"city": "Lima"}}
    with pytest.raises(anthropic.BadRequestError, match="tool_result blocks come next"):
        message(client, messages=[*ASK, {"role": "assistant", "content": [call]}], tools=[TOOL])


def test_the_tool_runner_sends_whole_conversations(client: anthropic.Anthropic):
    """It asks for a thread at first, which is not kept here."""
    asked = []

    @anthropic.beta_tool
    def weather(city: Literal["Paris", "Lima"]) -> str:
        """Weather of a city."""
        asked.append(city)
        return "sunny"

    runner = client.beta.messages.tool_runner(
        model="talker", messages=ASK, max_tokens=300, tools=[weather], max_iterations=2,
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )  # fmt: skip
    assert [answer.stop_reason for answer in runner] == ["tool_use", "tool_use"]
    assert asked


def test_what_coding_agents_send_is_accepted(client: anthropic.Anthropic):
    """As Claude Code asks, also where it has begun the conversation with another model."""
    cached = {"cache_control": {"type": "ephemeral"}}
    thought = [{"type": "redacted_thinking", "data": "c2VjcmV0"}, {"type": "text", "text": "Sunny."}]
    asked: dict[str, Any] = {
        "system": [{"type": "text", "text": "Be brief.", **cached}],
        "messages": [*ASK, {"role": "assistant", "content": thought}, *ASK],
        "tools": [TOOL | cached | {"eager_input_streaming": True, "defer_loading": False}],
    }
    kept = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    more = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}, "metadata": {"user_id": "someone"}}
    answer = message(client, **asked, **more, max_tokens=8, extra_body={"context_management": kept})
    assert answer.usage.output_tokens == 8
    plain = asked | {"messages": [*ASK, {"role": "assistant", "content": "Sunny."}, *ASK]}
    counts = [client.messages.count_tokens(model="talker", **one).input_tokens for one in (asked, plain)]
    assert counts[0] == counts[1]


def test_documents_and_what_a_search_found_are_read_as_text(client: anthropic.Anthropic):
    """Between tags, in a question and in what a call gave."""
    text = {"type": "text", "media_type": "text/plain", "data": "It is dry."}
    titled = {"type": "document", "title": "Lima", "context": "A guide.", "source": text}
    pieces = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "It is wet."}]}}
    found = {
        "type": "search_result", "source": "https://a.example", "title": "Paris",
        "content": [{"type": "text", "text": "Rain."}], "citations": {"enabled": False},
    }  # fmt: skip
    read = (
        "<document>\n<title>Lima</title>\n<context>A guide.</context>\nIt is dry.\n</document>\n"
        "<document>\nIt is wet.\n</document>\n"
        "<search_result>\n<source>https://a.example</source>\n<title>Paris</title>\nRain.\n</search_result>\n"
    )
    call = [{"type": "tool_use", "id": "1", "name": "weather", "input": {"city": "Paris"}}]

    def count(first: Any, gave: Any) -> int:
        turns = [
            {"role": "user", "content": first}, {"role": "assistant", "content": call},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": gave}]},
        ]  # fmt: skip
        return client.messages.count_tokens(model="talker", messages=turns, tools=[TOOL]).input_tokens

    blocks = [titled, pieces, found]
    asked = {"type": "text", "text": "What of Lima?"}
    assert count([*blocks, asked], blocks) == count(read + asked["text"], read) > count(asked["text"], "") + 40

    cited = pieces | {"citations": {"enabled": True}}
    scanned = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
    for block, told in ((cited, "citations.enabled"), (scanned, "'text', 'content'")):
        with pytest.raises(anthropic.BadRequestError, match=told):
            message(client, messages=[{"role": "user", "content": [block]}])


def test_instructions_within_a_conversation(client: anthropic.Anthropic):
    """They are a turn of the system's, as long as another's."""
    counts = [
        client.messages.count_tokens(
            model="talker", messages=[*ASK, {"role": role, "content": "Be brief."}, *ASK]
        ).input_tokens
        for role in ("system", "user")
    ]
    assert counts[0] == counts[1]


def test_errors_have_anthropics_shape(client: anthropic.Anthropic, talking: str):
    with pytest.raises(anthropic.NotFoundError) as lost:
        message(client, model="other")
    assert lost.value.body["error"]["type"] == "not_found_error"
    answer = httpx.post(f"{talking}/v1/messages", json={"model": "talker", "messages": ASK})
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["error"] == {"type": "invalid_request_error", "message": "max_tokens: Field required"}
