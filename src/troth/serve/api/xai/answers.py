"""From answers of POST /v1/chat/completions, whole or event by event, to xAI's messages."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from xai_sdk.proto import chat_pb2, sample_pb2, usage_pb2

_FINISH = {
    None: sample_pb2.REASON_INVALID, "stop": sample_pb2.REASON_STOP, "length": sample_pb2.REASON_MAX_LEN,
    "tool_calls": sample_pb2.REASON_TOOL_CALLS,
}  # fmt: skip


def completion(answer: dict[str, Any]) -> chat_pb2.GetChatCompletionResponse:
    """A whole answer."""
    outputs = [
        chat_pb2.CompletionOutput(
            index=choice["index"],
            finish_reason=_FINISH[choice["finish_reason"]],
            message=chat_pb2.CompletionMessage(
                role=chat_pb2.ROLE_ASSISTANT,
                content=choice["message"]["content"] or "",
                reasoning_content=choice["message"].get("reasoning_content", ""),
                tool_calls=[_call(call) for call in choice["message"].get("tool_calls", ())],
            ),
            logprobs=_logprobs(choice["logprobs"]),
        )
        for choice in answer["choices"]
    ]
    return chat_pb2.GetChatCompletionResponse(**_base(answer), outputs=outputs)


class Chunks:
    """A stream's events as xAI has them: each tells whose turn it is, and a call comes whole."""

    def __init__(self) -> None:
        self._calls: dict[int, list[dict[str, Any]]] = {}

    def take(self, event: dict[str, Any]) -> chat_pb2.GetChatCompletionChunk | None:
        """The chunk that an event becomes; None for a part of a call."""
        outputs = [output for choice in event["choices"] if (output := self._output(choice))]
        if event["choices"] and not outputs:
            return None
        return chat_pb2.GetChatCompletionChunk(**_base(event), outputs=outputs)

    def _output(self, choice: dict[str, Any]) -> chat_pb2.CompletionOutputChunk | None:
        index, delta, ended = choice["index"], choice["delta"], choice["finish_reason"]
        calls = self._calls.setdefault(index, [])
        for part in delta.get("tool_calls", ()):
            if "id" in part:
                calls.append({"id": part["id"], "function": dict(part["function"])})
            else:
                calls[part["index"]]["function"]["arguments"] += part["function"]["arguments"]
        if "tool_calls" in delta and not ended and not choice["logprobs"]:
            return None
        return chat_pb2.CompletionOutputChunk(
            index=index,
            finish_reason=_FINISH[ended],
            delta=chat_pb2.Delta(
                role=chat_pb2.ROLE_ASSISTANT,
                content=delta.get("content") or "",
                reasoning_content=delta.get("reasoning_content") or "",
                tool_calls=[_call(call) for call in calls] if ended else [],
            ),
            logprobs=_logprobs(choice["logprobs"]),
        )


def timestamp(seconds: int) -> Timestamp:
    """A time in seconds since 1970."""
    return Timestamp(seconds=seconds)


def _base(answer: dict[str, Any]) -> dict[str, Any]:
    found = {"id": answer["id"], "created": timestamp(answer["created"]), "model": answer["model"]}
    return found | ({"usage": _usage(answer["usage"])} if answer.get("usage") else {})


def _usage(usage: dict[str, Any]) -> usage_pb2.SamplingUsage:
    return usage_pb2.SamplingUsage(
        prompt_tokens=usage["prompt_tokens"],
        prompt_text_tokens=usage["prompt_tokens"],
        cached_prompt_text_tokens=usage["prompt_tokens_details"]["cached_tokens"],
        completion_tokens=usage["completion_tokens"],
        reasoning_tokens=usage["completion_tokens_details"]["reasoning_tokens"],
        total_tokens=usage["total_tokens"],
    )


def _call(call: dict[str, Any]) -> chat_pb2.ToolCall:
    function = chat_pb2.FunctionCall(name=call["function"]["name"], arguments=call["function"]["arguments"])
    kind, status = chat_pb2.TOOL_CALL_TYPE_CLIENT_SIDE_TOOL, chat_pb2.TOOL_CALL_STATUS_COMPLETED
    return chat_pb2.ToolCall(id=call["id"], type=kind, status=status, function=function)


def _logprobs(found: dict[str, Any] | None) -> chat_pb2.LogProbs | None:
    if found is None:
        return None
    return chat_pb2.LogProbs(
        content=[
            chat_pb2.LogProb(
                **_token(token), top_logprobs=[chat_pb2.TopLogProb(**_token(o)) for o in token["top_logprobs"]]
            )
            for token in found["content"]
        ]
    )


def _token(token: dict[str, Any]) -> dict[str, Any]:
    return {"token": token["token"], "logprob": token["logprob"], "bytes": bytes(token["bytes"] or ())}
