"""xAI's REST dialect where it differs from OpenAI's; its own SDK speaks gRPC, see test_xai_sdk.py."""

import httpx
import pytest

ASK = [{"role": "user", "content": "What is the weather in Paris?"}]


def test_live_search_has_ended(talking: str):
    body = {"model": "talker", "messages": ASK, "search_parameters": {"mode": "auto"}}
    answer = httpx.post(f"{talking}/v1/chat/completions", json=body)
    assert answer.status_code == 410
    assert answer.json()["error"]["param"] == "search_parameters"


@pytest.mark.parametrize("effort", ["none", "low", "medium", "high"])
def test_reasoning_efforts(talking: str, effort: str):
    body = {"model": "talker", "messages": ASK, "reasoning_effort": effort, "max_completion_tokens": 40}
    answer = httpx.post(f"{talking}/v1/chat/completions", json=body, timeout=60).json()
    counted = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert (counted > 0) == (effort != "none")
    assert ("reasoning_content" in answer["choices"][0]["message"]) == (effort != "none")
    assert "cached_tokens" in answer["usage"]["prompt_tokens_details"]


def test_stateless_reasoning_in_responses(talking: str):
    """Without a store, clients ask for what they have to send back, and send it back."""
    body = {
        "model": "talker", "input": ASK, "store": False, "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low"}, "max_output_tokens": 40,
    }  # fmt: skip
    first = httpx.post(f"{talking}/v1/responses", json=body, timeout=60).json()
    assert first["output"][0]["type"] == "reasoning"
    again = httpx.post(f"{talking}/v1/responses", json=body | {"input": [*ASK, *first["output"], *ASK]}, timeout=60)
    assert again.status_code == 200, again.text
    assert again.json()["usage"]["input_tokens"] > first["usage"]["input_tokens"]
