"""LangChain's chat model over the server: what most applications are built on."""

from typing import Any, Literal

import pydantic
import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


class Weather(pydantic.BaseModel):
    """Weather of a city."""

    city: Literal["Paris", "Lima"]
    sunny: bool


@tool
def weather(city: Literal["Paris", "Lima"]) -> str:
    """Look up the weather of a city."""
    return f"sunny in {city}"


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def chat(request: pytest.FixtureRequest, talking: str) -> ChatOpenAI:
    settings: dict[str, Any] = {"max_tokens": 300, "max_retries": 0, "timeout": 60, "stream_usage": True}
    url = f"{talking}/v1"
    return ChatOpenAI(model="talker", base_url=url, api_key="none", use_responses_api=request.param, **settings)


def test_invoke_and_stream(chat: ChatOpenAI):
    answer = chat.invoke("What is the weather in Paris?")
    assert answer.usage_metadata["output_tokens"] > 0
    chunks = list(chat.stream("What is the weather in Paris?"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.usage_metadata["total_tokens"] > 0


def test_a_bound_tool_is_called_and_answered(chat: ChatOpenAI):
    model = chat.bind_tools([weather], tool_choice="weather", strict=True, parallel_tool_calls=False)
    asked = model.invoke("What is the weather in Paris?")
    [call] = asked.tool_calls
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert result.content.startswith("sunny in")
    conversation = [("user", "What is the weather in Paris?"), asked, result]
    answer = chat.bind_tools([weather], strict=True).invoke(conversation)
    assert answer.usage_metadata["input_tokens"] > asked.usage_metadata["input_tokens"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(chat: ChatOpenAI, method: str):
    found = chat.with_structured_output(Weather, method=method, strict=True).invoke("The weather in Lima?")
    assert isinstance(found, Weather)
